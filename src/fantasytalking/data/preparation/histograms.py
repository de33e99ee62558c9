"""Histograms of what was measured of a set's candidates, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fantasytalking.reporting.html import finite, number
from fantasytalking.reporting.svg import Scale, element, figure, ticks, x_axis, y_axis

__all__ = ["MEASURES", "histogram", "histograms"]

MEASURES: tuple[tuple[str, str, int], ...] = (
    ("seconds", "Length, s", 1),
    ("face_width", "Width of the face in the source, px", 0),
    ("face_confidence", "Mean confidence of the face", 3),
    ("sync_offset", "Offset of the lips behind the sound, frames of 1/25 s", 0),
    ("sync_confidence", "Confidence of the sync network", 2),
    ("speech_share", "Share of the clip in which speech is heard", 2),
    ("w_face", "Raw motion of the face", 5),
    ("w_body", "Raw motion of the body", 5),
)
"""Key of a measure in a candidate's row, its title, decimals shown."""

Values = NDArray[np.float64]

_SIZE = (400, 170)
_BINS = 24
_LEFT, _RIGHT, _TOP = 44, 382, 8


def histograms(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Plot each measure of a set's candidates; those that were measured in any of them."""
    return [plot for plot in (histogram(rows, *measure) for measure in MEASURES) if plot]


def histogram(rows: Sequence[Mapping[str, Any]], name: str, title: str, decimals: int) -> Markup:
    """Plot one measure as stacked bars, kept below and dropped above; nothing where it was measured in no candidate.

    Args:
        rows: Of all candidates, with `kept` and, where it was measured, the measure.
        name: The measure's key.
        title: Above the plot.
        decimals: Of the numbers shown.
    """
    groups = []
    for kept in (True, False):
        values = (finite(row.get(name)) for row in rows if row["kept"] is kept)
        groups.append(np.array([value for value in values if value is not None]))
    both = np.concatenate(groups)
    if not len(both):
        return Markup("")
    edges = _edges(both, whole=decimals == 0 and bool((both == np.round(both)).all()))
    kept, dropped = (np.histogram(np.clip(group, edges[0], edges[-1]), edges)[0].tolist() for group in groups)
    most = max(map(sum, zip(kept, dropped, strict=True)))
    bottom = _SIZE[1] - 22
    x, y = Scale(float(edges[0]), float(edges[-1]), _LEFT, _RIGHT), Scale(0, most, bottom, _TOP)
    counts = [(value, str(int(value))) for value in ticks(0, most, 4) if value == int(value)]
    places = ticks(float(edges[0]), float(edges[-1]), 5)
    parts = y_axis(counts, y, _LEFT, _RIGHT)
    parts += x_axis([(value, number(value, decimals if abs(value) < 1000 else 0)) for value in places], x, bottom + 2)
    parts += _bars(edges, (kept, dropped), x, y, decimals)
    median = number(float(np.median(groups[0])), decimals) if len(groups[0]) else "none"
    told = f"{len(groups[0])} kept, median {median}; {len(groups[1])} dropped"
    return figure(title, told, parts, _SIZE, subtitle=told)


def _edges(values: Values, whole: bool) -> Values:
    # the outermost hundredth goes into the bars at the ends, so that one odd clip does not squeeze the rest
    low, high = (
        (float(v) for v in np.quantile(values, (0.01, 0.99))) if len(values) >= 50 else (values.min(), values.max())
    )
    if whole and high - low <= 2 * _BINS:
        return np.arange(math.floor(low), math.ceil(high) + 2) - 0.5
    if high - low < 1e-12:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    return np.linspace(low, high, _BINS + 1)


def _bars(
    edges: Values, counts: tuple[Sequence[int], Sequence[int]], x: Scale, y: Scale, decimals: int
) -> list[Markup]:
    parts = []
    for a, b, kept, dropped in zip(edges[:-1], edges[1:], *counts, strict=True):
        tip = f"{number(float(a), decimals)} to {number(float(b), decimals)}: {kept} kept, {dropped} dropped"
        left, width = x(a) + 0.5, max(1.0, x(b) - x(a) - 1)
        for low, high, css in ((0, kept, "kept"), (kept, kept + dropped, "dropped")):
            if high > low:
                box = {"x": left, "y": y(high), "width": width, "height": y(low) - y(high)}
                parts.append(element("rect", element("title", tip), css=f"bar {css}", **box))
    return parts
