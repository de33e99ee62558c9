"""Plots of the report as inline SVG: distributions over clips, curves over offsets and over time.

Written by hand rather than by a plotting library: they stay sharp and small, follow the page's colours in light and dark mode, and the
report needs no optional package. No plot tells methods apart by colour alone: rows carry their names, lines their marks and dashes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.results import Column, Curve, Method, Report
from fantasytalking.reporting.html import ARROWS, Html, finite, join, number, text
from fantasytalking.reporting.svg import ticks

__all__ = ["Line", "distribution", "line_plot", "mean_curve", "plots_section"]

STYLES = 8
"""Colours, dashes and marks in the page's style sheet; a ninth method looks like the first."""

_WIDTH = 400
_WIDE = (600, 260)
_SHOWN = 200
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Line:
    """A line of a plot: name in the legend, number of its style, points."""

    name: str
    style: int
    curve: Curve


def _label(value: float, values: Sequence[float]) -> str:
    step = abs(values[1] - values[0]) if len(values) > 1 else abs(value)
    decimals = 0 if step == 0 else max(0, min(6, -math.floor(math.log10(step) + 1e-9)))
    # 2.5 needs one decimal more than 2 and 3.
    decimals += 1 if step and round(step * 10**decimals, 6) % 1 else 0
    return number(value, decimals)


def _range(values: Sequence[float], room: float = 0.04) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * room or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def distribution(report: Report, column: Column) -> Html:
    """One metric over clips: a row per method with a dot per clip, the box of the quartiles and the median."""
    rows = []
    for index, method in enumerate(report.methods):
        found = [(finite(clip.values.get(column.key)), name) for name, clip in method.clips.items()]
        known = sorted((value, name) for value, name in found if value is not None)
        if known:
            rows.append((index, method, known))
    if not rows:
        return Html("")
    low, high = _range([value for _, _, known in rows for value, _ in known])
    left, right, row_height = 118, _WIDTH - 12, 30
    bottom = 8 + row_height * len(rows)
    x = _scale(low, high, left, right)
    parts = _x_axis(ticks(low, high, 6), x, 8, bottom)
    told = []
    for order, (index, method, known) in enumerate(rows):
        middle = 8 + row_height * (order + 0.5)
        values = np.array([value for value, _ in known])
        quartiles = np.quantile(values, (0.25, 0.5, 0.75))
        parts.append(
            f'<text class="row" x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{text(_short(method.name, 14))}'
        )
        parts.append(f"<title>{text(method.name)}</title></text>")
        parts += _box(quartiles, x, middle, index)
        parts += _dots(known, x, middle, index, column.decimals)
        a, b, c = (number(float(q), column.decimals) for q in quartiles)
        told.append(f"{method.name}: median {b}, quartiles {a} to {c}, {len(known)} clips")
    unit = f", {column.unit}" if column.unit else ""
    title = f"{column.label}{unit} {ARROWS[column.better]}".rstrip()
    return _figure(title, "; ".join(told), parts, (_WIDTH, bottom + 22))


def _box(quartiles: NDArray[np.float64], x: _Scale, middle: float, style: int) -> list[str]:
    a, b, c = (x(float(q)) for q in quartiles)
    return [
        f'<rect class="box s{style % STYLES}" x="{a:.1f}" y="{middle - 9:.1f}" width="{max(1.0, c - a):.1f}" height="18" rx="2"/>',
        f'<line class="median s{style % STYLES}" x1="{b:.1f}" x2="{b:.1f}" y1="{middle - 11:.1f}" y2="{middle + 11:.1f}"/>',
    ]


def _dots(known: Sequence[tuple[float, str]], x: _Scale, middle: float, style: int, decimals: int) -> list[str]:
    # Thousands of dots would be the page's largest part: every n-th by value keeps the shape and both ends.
    kept = sorted({round(i) for i in np.linspace(0, len(known) - 1, min(len(known), _SHOWN))})
    parts = []
    for i in kept:
        value, name = known[i]
        y = middle + 12 * ((i * _GOLDEN) % 1 - 0.5)
        tip = f"{text(name)}: {number(value, decimals)}"
        parts.append(
            f'<circle class="dot s{style % STYLES}" cx="{x(value):.1f}" cy="{y:.1f}" r="2.6"><title>{tip}</title></circle>'
        )
    return parts


class _Scale:
    """Values to pixels, linearly."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.first = low, first
        self.factor = (last - first) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) * self.factor


def _scale(low: float, high: float, first: float, last: float) -> _Scale:
    return _Scale(low, high, first, last)


def _x_axis(values: Sequence[float], x: _Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for value in values:
        at = x(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{_label(value, values)}</text>'
        )
    return parts


def _figure(title: str, told: str, parts: Sequence[str], size: tuple[int, int], legend: str = "") -> Html:
    return Html(
        f'<figure class="plot"><figcaption>{text(title)}</figcaption>'
        f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{text(title)}. {text(told)}">'
        + "".join(parts)
        + f"</svg>{legend}</figure>"
    )


def line_plot(
    title: str,
    lines: Sequence[Line],
    x_name: str,
    size: tuple[int, int] = (_WIDTH, 190),
    zero: bool = False,
    playhead: bool = False,
) -> Html:
    """Curves with axes and a legend; nothing where there is no curve.

    Args:
        title: above the plot.
        lines: curves; points that are not finite are left out.
        x_name: below the axis.
        size: width and height in units of the drawing, which the page scales; text is 11 units high.
        zero: whether to mark x = 0.
        playhead: whether the page's player moves a line over the plot.
    """
    points = {line.name: _points(line.curve) for line in lines}
    lines = [line for line in lines if points[line.name]]
    if not lines:
        return Html("")
    flat = [p for line in lines for p in points[line.name]]
    x_low, x_high = min(p[0] for p in flat), max(p[0] for p in flat)
    y_low, y_high = _range([p[1] for p in flat])
    left, right, top, bottom = 46, size[0] - 12, 8, size[1] - 38
    x, y = _scale(x_low, x_high, left, right), _scale(y_low, y_high, bottom, top)
    parts = _x_axis(ticks(x_low, x_high, 6), x, top, bottom)
    levels = ticks(y_low, y_high, 4)
    for value in levels:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_label(value, levels)}</text>'
        )
    if zero and x_low < 0 < x_high:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{bottom}"/>')
    told = []
    for line in lines:
        parts += _drawn(line, points[line.name], x, y)
        heights = [p[1] for p in points[line.name]]
        lowest = min(points[line.name], key=lambda p: p[1])[0]
        told.append(f"{line.name}: from {min(heights):.4g} (at {lowest:.3g}) to {max(heights):.4g}")
    parts.append(
        f'<text class="tick" x="{(left + right) / 2}" y="{bottom + 30}" text-anchor="middle">{text(x_name)}</text>'
    )
    if playhead:
        data = f'data-left="{x(0):.2f}" data-slope="{x.factor:.4f}" data-right="{right}"'
        parts.append(f'<line class="playhead" {data} x1="{left}" x2="{left}" y1="{top}" y2="{bottom}"/>')
    return _figure(title, "; ".join(told), parts, size, _legend(lines))


def _points(curve: Curve) -> list[tuple[float, float]]:
    pairs = ((finite(a), finite(b)) for a, b in zip(curve.x, curve.y, strict=False))
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _drawn(line: Line, points: Sequence[tuple[float, float]], x: _Scale, y: _Scale) -> list[str]:
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    parts = [
        f'<polyline class="line s{line.style % STYLES}" points="{path}"><title>{text(line.name)}</title></polyline>'
    ]
    every = max(1, len(points) // 8)
    parts += [_mark(line.style, x(a), y(b)) for a, b in points[line.style % every :: every]]
    return parts


def _mark(style: int, x: float, y: float) -> str:
    """A small sign, another one for each of four styles."""
    css, sign = f'class="mark s{style % STYLES}"', style % 4
    if sign == 0:
        return f'<circle {css} cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if sign == 1:
        return f'<rect {css} x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6"/>'
    corners = ((0, -4), (3.6, 3), (-3.6, 3)) if sign == 2 else ((0, -4), (4, 0), (0, 4), (-4, 0))
    return f'<polygon {css} points="' + " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners) + '"/>'


def _legend(lines: Sequence[Line]) -> str:
    items = []
    for line in lines:
        sample = f'<line class="line s{line.style % STYLES}" x1="0" x2="28" y1="7" y2="7"/>{_mark(line.style, 14, 7)}'
        items.append(
            f'<li><svg class="key" viewBox="0 0 28 14" aria-hidden="true">{sample}</svg>{text(line.name)}</li>'
        )
    return f'<ul class="legend-list">{"".join(items)}</ul>'


def mean_curve(curves: Sequence[Curve], step: float, share: float = 0.5) -> Curve:
    """Mean over clips at equal places.

    Args:
        curves: of clips.
        step: width of a place on the x axis; points are averaged within it, first a clip's own, then over clips.
        share: places that fewer than this share of the clips reach are left out, or the end would show the longest clips only.
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


def plots_section(report: Report) -> Html:
    """All plots over clips; those of single clips stand beside their videos."""
    wide = [
        line_plot(
            "Sync: distance over offset, mean over clips",
            _mean_lines(report.methods, "sync", 1.0),
            f"frames by which the face lags behind the sound{_frame_rate(report.protocol)}",
            _WIDE,
            zero=True,
        ),
        line_plot(
            "Motion of the person over time, mean over clips",
            _mean_lines(report.methods, "motion", 0.2),
            "seconds",
            _WIDE,
        ),
    ]
    plots = [distribution(report, column) for column in report.columns if column.kind == "mean"]
    if not any([*wide, *plots]):
        return Html("")
    return join(
        [
            '<section id="plots"><h2>Plots</h2>',
            f'<div class="figures two">{join(wide)}</div>' if any(wide) else "",
            '<h3>Distribution over clips</h3><p class="legend">A dot is a clip (its name on hover), the box spans the middle half, '
            f"the bar is the median. Beyond {_SHOWN} clips a row shows every n-th. Fréchet distances belong to sets, not clips, and "
            "have no distribution.</p>",
            f'<div class="figures">{join(plots)}</div></section>',
        ],
        "\n",
    )
