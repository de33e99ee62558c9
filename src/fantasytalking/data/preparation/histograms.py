"""Histograms of the measures of a set's clips as inline SVG, in the style of the evaluation's pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.reporting.html import Html, finite, join, number, text
from fantasytalking.reporting.svg import ticks

__all__ = ["MEASURES", "histogram", "histograms_section"]

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
"""Measure of a row, its title, decimals."""

Values = NDArray[np.float64]

_SIZE = (400, 170)
_BINS = 24
_LEFT, _RIGHT, _TOP = 44, 382, 8


def histograms_section(rows: Sequence[Mapping[str, Any]]) -> Html:
    """One histogram a measure, over the candidates in which it was measured."""
    plots = [plot for plot in (histogram(rows, *measure) for measure in MEASURES) if plot]
    return Html(
        '<section id="measures"><h2>Measures</h2><p class="legend">Candidates by what was measured: '
        '<span class="swatch kept"></span> kept, <span class="swatch dropped"></span> dropped. '
        "Stages that come after the one that drops a candidate do not measure it.</p>"
        f'<div class="figures">{join(plots)}</div></section>'
    )


def histogram(rows: Sequence[Mapping[str, Any]], name: str, title: str, decimals: int) -> Html:
    """Stacked bars, kept below and dropped above; nothing where nothing was measured."""
    groups = []
    for kept in (True, False):
        values = (finite(row.get(name)) for row in rows if row["kept"] is kept)
        groups.append(np.array([value for value in values if value is not None]))
    both = np.concatenate(groups)
    if not len(both):
        return Html("")
    edges = _edges(both, whole=decimals == 0 and bool((both == np.round(both)).all()))
    kept, dropped = (np.histogram(np.clip(group, edges[0], edges[-1]), edges)[0].tolist() for group in groups)
    most = max(map(sum, zip(kept, dropped, strict=True)))
    parts = [*_axes(edges, most, decimals), *_bars(edges, kept, dropped, most, decimals)]
    median = number(float(np.median(groups[0])), decimals) if len(groups[0]) else "none"
    told = f"{len(groups[0])} kept, median {median}; {len(groups[1])} dropped"
    return Html(
        f'<figure class="plot"><figcaption>{text(title)} <span class="sub">{text(told)}</span></figcaption>'
        f'<svg viewBox="0 0 {_SIZE[0]} {_SIZE[1]}" role="img" aria-label="{text(title)}. {text(told)}">{join(parts)}</svg></figure>'
    )


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


def _axes(edges: Values, most: int, decimals: int) -> list[str]:
    bottom = _SIZE[1] - 22
    parts = []
    for value in ticks(0, most, 4):
        if value == int(value):
            y = bottom - (bottom - _TOP) * value / most
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{int(value)}</text>')
    for value in ticks(float(edges[0]), float(edges[-1]), 5):
        x = _x(edges, value)
        shown = number(value, decimals if abs(value) < 1000 else 0)
        parts.append(f'<text x="{x:.1f}" y="{_SIZE[1] - 6}" text-anchor="middle">{shown}</text>')
    return parts


def _bars(edges: Values, kept: Sequence[int], dropped: Sequence[int], most: int, decimals: int) -> list[str]:
    bottom, parts = _SIZE[1] - 22, []
    for a, b, below, above in zip(edges[:-1], edges[1:], kept, dropped, strict=True):
        x, width = _x(edges, a) + 0.5, max(1.0, _x(edges, b) - _x(edges, a) - 1)
        y = float(bottom)
        tip = f"{number(float(a), decimals)} to {number(float(b), decimals)}: {below} kept, {above} dropped"
        for count, css in ((below, "kept"), (above, "dropped")):
            height = (bottom - _TOP) * count / most
            y -= height
            if count:
                box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                parts.append(f'<rect class="bar {css}" {box}><title>{tip}</title></rect>')
    return parts


def _x(edges: Values, value: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * float((value - edges[0]) / (edges[-1] - edges[0]))
