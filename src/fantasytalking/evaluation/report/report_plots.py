"""Plots of the report as inline SVG: distributions over clips, curves over offsets and over time.

No plot tells methods apart by colour alone: rows carry their names, lines their marks and dashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fantasytalking.evaluation.results import Column, Curve, Method, Report
from fantasytalking.reporting.html import ARROWS, finite, number
from fantasytalking.reporting.svg import Scale, element, figure, tick_label, ticks, x_axis, y_axis

__all__ = ["MOST_DOTS", "Line", "distribution", "distributions", "line_plot", "mean_curve", "mean_plots"]

STYLES = 8
"""Colours, dashes and marks in the page's style sheet; a ninth method looks like the first."""
MOST_DOTS = 200
"""Dots in a row of a distribution; of more clips every n-th is shown."""

_WIDTH = 400
_WIDE = (600, 260)
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: Shown in the legend.
        style: Number of its colour, dash and mark.
        curve: Its points.
    """

    name: str
    style: int
    curve: Curve


def distribution(report: Report, column: Column) -> Markup:
    """Plot one metric over clips: a row per method with a dot per clip, the box of the quartiles and the median."""
    rows = []
    for index, method in enumerate(report.methods):
        found = [(finite(clip.values.get(column.key)), name) for name, clip in method.clips.items()]
        known = sorted((value, name) for value, name in found if value is not None)
        if known:
            rows.append((index, method, known))
    if not rows:
        return Markup("")
    low, high = _range([value for _, _, known in rows for value, _ in known])
    left, right, row_height = 118, _WIDTH - 12, 30
    bottom = 8 + row_height * len(rows)
    x = Scale(low, high, left, right)
    values = ticks(low, high, 6)
    parts = x_axis([(value, tick_label(value, values)) for value in values], x, bottom, 8)
    told = []
    for order, (index, method, known) in enumerate(rows):
        middle = 8 + row_height * (order + 0.5)
        quartiles = np.quantile(np.array([value for value, _ in known]), (0.25, 0.5, 0.75))
        name = (_short(method.name, 14), element("title", method.name))
        parts.append(element("text", *name, css="row", x=left - 8, y=middle + 4, text_anchor="end"))
        parts += _box(quartiles, x, middle, index)
        parts += _dots(known, x, middle, index, column.decimals)
        a, b, c = (number(float(q), column.decimals) for q in quartiles)
        told.append(f"{method.name}: median {b}, quartiles {a} to {c}, {len(known)} clips")
    unit = f", {column.unit}" if column.unit else ""
    title = f"{column.label}{unit} {ARROWS[column.better]}".rstrip()
    return figure(title, "; ".join(told), parts, (_WIDTH, bottom + 22))


def _box(quartiles: NDArray[np.float64], x: Scale, middle: float, style: int) -> list[Markup]:
    a, b, c = (x(float(q)) for q in quartiles)
    css = f"s{style % STYLES}"
    return [
        element("rect", css=f"box {css}", x=a, y=middle - 9, width=max(1.0, c - a), height=18, rx=2),
        element("line", css=f"median {css}", x1=b, x2=b, y1=middle - 11, y2=middle + 11),
    ]


def _dots(known: Sequence[tuple[float, str]], x: Scale, middle: float, style: int, decimals: int) -> list[Markup]:
    # Thousands of dots would be the page's largest part: every n-th by value keeps the shape and both ends.
    kept = sorted({round(i) for i in np.linspace(0, len(known) - 1, min(len(known), MOST_DOTS))})
    parts = []
    for i in kept:
        value, name = known[i]
        tip = element("title", f"{name}: {number(value, decimals)}")
        y = middle + 12 * ((i * _GOLDEN) % 1 - 0.5)
        parts.append(element("circle", tip, css=f"dot s{style % STYLES}", cx=x(value), cy=y, r=2.6))
    return parts


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def line_plot(
    title: str,
    lines: Sequence[Line],
    x_name: str,
    size: tuple[int, int] = (_WIDTH, 190),
    zero: bool = False,
    playhead: bool = False,
) -> Markup:
    """Plot curves with axes and a legend; nothing where there is no curve.

    Args:
        title: Above the plot.
        lines: Curves; points that are not finite are left out.
        x_name: Below the axis.
        size: Width and height in units of the drawing.
        zero: Whether to mark x = 0.
        playhead: Whether the page's player moves a line over the plot.
    """
    points = {line.name: _points(line.curve) for line in lines}
    lines = [line for line in lines if points[line.name]]
    if not lines:
        return Markup("")
    flat = [p for line in lines for p in points[line.name]]
    x_low, x_high = min(p[0] for p in flat), max(p[0] for p in flat)
    y_low, y_high = _range([p[1] for p in flat])
    left, right, top, bottom = 46, size[0] - 12, 8, size[1] - 38
    x, y = Scale(x_low, x_high, left, right), Scale(y_low, y_high, bottom, top)
    values, levels = ticks(x_low, x_high, 6), ticks(y_low, y_high, 4)
    parts = x_axis([(value, tick_label(value, values)) for value in values], x, bottom, top)
    parts += y_axis([(level, tick_label(level, levels)) for level in levels], y, left, right)
    if zero and x_low < 0 < x_high:
        parts.append(element("line", css="zero", x1=x(0), x2=x(0), y1=top, y2=bottom))
    for line in lines:
        parts += _drawn(line, points[line.name], x, y)
    parts.append(element("text", x_name, css="tick", x=(left + right) / 2, y=bottom + 30, text_anchor="middle"))
    if playhead:
        data: dict[str, str] = {"data_left": f"{x(0):.2f}", "data_slope": f"{x.factor:.4f}", "data_right": str(right)}
        parts.append(element("line", css="playhead", **data, x1=left, x2=left, y1=top, y2=bottom))
    told = "; ".join(_told(line.name, points[line.name]) for line in lines)
    return figure(title, told, parts, size, legend=_legend(lines))


def _told(name: str, points: Sequence[tuple[float, float]]) -> str:
    lowest, least = min(points, key=lambda p: p[1])
    return f"{name}: from {least:.4g} (at {lowest:.3g}) to {max(p[1] for p in points):.4g}"


def _points(curve: Curve) -> list[tuple[float, float]]:
    pairs = ((finite(a), finite(b)) for a, b in zip(curve.x, curve.y, strict=False))
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _drawn(line: Line, points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[Markup]:
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    parts = [element("polyline", element("title", line.name), css=f"line s{line.style % STYLES}", points=path)]
    every = max(1, len(points) // 8)
    parts += [_mark(line.style, x(a), y(b)) for a, b in points[line.style % every :: every]]
    return parts


def _mark(style: int, x: float, y: float) -> Markup:
    """A small mark: circle, square, triangle or diamond, in turn."""
    css, sign = f"mark s{style % STYLES}", style % 4
    if sign == 0:
        return element("circle", css=css, cx=x, cy=y, r=3)
    if sign == 1:
        return element("rect", css=css, x=x - 2.8, y=y - 2.8, width=5.6, height=5.6)
    corners = ((0, -4), (3.6, 3), (-3.6, 3)) if sign == 2 else ((0, -4), (4, 0), (0, 4), (-4, 0))
    return element("polygon", css=css, points=" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners))


def _legend(lines: Sequence[Line]) -> Markup:
    items = []
    for line in lines:
        sample = element("line", css=f"line s{line.style % STYLES}", x1=0, x2=28, y1=7, y2=7)
        key = element("svg", sample, _mark(line.style, 14.0, 7.0), css="key", viewBox="0 0 28 14", aria_hidden="true")
        items.append(element("li", key, line.name))
    return element("ul", *items, css="legend-list")


def mean_curve(curves: Sequence[Curve], step: float, share: float = 0.5) -> Curve:
    """Average curves over clips at equal places.

    Args:
        curves: One of each clip.
        step: Width of a place on the x axis; points are averaged within it, first a clip's own, then over clips.
        share: Places that fewer than this share of the clips reach are left out, or the end would show the longest clips only.
    """
    places: dict[int, list[float]] = {}
    for curve in curves:
        own: dict[int, list[float]] = {}
        for a, b in _points(curve):
            own.setdefault(round(a / step), []).append(b)
        for place, values in own.items():
            places.setdefault(place, []).append(sum(values) / len(values))
    kept = sorted(place for place, values in places.items() if len(values) >= share * len(curves))
    return Curve(tuple(place * step for place in kept), tuple(sum(places[k]) / len(places[k]) for k in kept))


def _mean_lines(methods: Sequence[Method], name: str, step: float) -> list[Line]:
    lines = []
    for index, method in enumerate(methods):
        curves = [clip.curves[name] for clip in method.clips.values() if name in clip.curves]
        if curves:
            lines.append(Line(method.name, index, mean_curve(curves, step)))
    return lines


def _frame_rate(protocol: Mapping[str, object]) -> str:
    fps = finite(protocol.get("fps"))
    return f" at {fps:g} fps" if fps else ""


def mean_plots(report: Report) -> list[Markup]:
    """Plot the curves that are averaged over clips: distance over offset, motion over time; those that exist."""
    sync = _mean_lines(report.methods, "sync", 1.0)
    lag = f"frames by which the face lags behind the sound{_frame_rate(report.protocol)}"
    motion = _mean_lines(report.methods, "motion", 0.2)
    plots = (
        line_plot("Sync: distance over offset, mean over clips", sync, lag, _WIDE, zero=True),
        line_plot("Motion of the person over time, mean over clips", motion, "seconds", _WIDE),
    )
    return [plot for plot in plots if plot]


def distributions(report: Report) -> list[Markup]:
    """Plot every metric that is measured clip by clip; those of which there is a value."""
    plots = (distribution(report, column) for column in report.columns if column.per_clip)
    return [plot for plot in plots if plot]
