"""Summary of the measurements of clips: a cell for each method and column, and a comparison of every pair of methods."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fantasytalking.evaluation.metrics.metric import Measurement
from fantasytalking.evaluation.pairing import GROUND_TRUTH, SHUFFLED
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Column, Comparison, Summary
from fantasytalking.evaluation.statistics.closeness import closeness
from fantasytalking.evaluation.statistics.intervals import (
    Distances,
    frechet_distances,
    mean_interval,
    median_interval,
    paired,
)

__all__ = ["Found", "Summarised", "summarise"]

_UNMEASURED = "No clip could be measured."
_NOT_OCCURRING = "It occurs in no clip."
Found = Mapping[str, Mapping[str, Measurement]]
"""Measurements by method and clip, with all metrics merged."""


@dataclass(frozen=True)
class Summarised:
    """Cells of the table and comparisons of methods.

    Attributes:
        cells: Method -> column key -> cell.
        comparisons: Comparison for each column and pair of methods with common clips.
        apart: Keys of columns in which the rows have no clip in common, so that each cell is of other clips.
    """

    cells: dict[str, dict[str, Summary]]
    comparisons: list[Comparison]
    apart: tuple[str, ...] = ()


def summarise(found: Found, columns: Sequence[Column], protocol: Protocol) -> Summarised:
    """Compute the cells of the table and the comparisons.

    All cells of a column count the same clips: those that have a value in every row with any. Real frames with other sound are left
    out of this, as they do not compete and a clip may find no other sound; their cells count those of the clips that they have.

    Args:
        found: The measurements; those of the ground truth are the other side of every Frechet distance.
        columns: Columns of the table.
        protocol: Protocol with resamples, coverage, seed, and the numbers below which a warning is given.
    """
    found = _shared(found)
    cells: dict[str, dict[str, Summary]] = {method: {} for method in found}
    comparisons: list[Comparison] = []
    apart: list[str] = []
    for column in columns:
        if column.kind == "closeness":
            part = _closeness(found, column, protocol)
        else:
            part = _figures(found, column, protocol) if column.per_clip else _distances(found, column, protocol)
        for method, cell in part.cells.items():
            cells[method][column.key] = cell[column.key]
        comparisons += part.comparisons
        apart += part.apart
    return Summarised(cells, comparisons, tuple(apart))


def _shared(found: Found) -> Found:
    """The measurements of the clips that every row has; all of them where there is no such clip."""
    shared = _counted({method: list(clips) for method, clips in found.items()})[0]
    return {method: {name: clips[name] for name in shared[method]} for method, clips in found.items()}


def _counted(having: Mapping[str, Sequence[str]]) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Clips that count in one column, from those that have a value, by method; and whether the rows have none in common."""
    rows = [clips for method, clips in having.items() if clips and method != SHUFFLED]
    common = [clip for clip in rows[0] if all(clip in clips for clips in rows)] if rows else []
    apart = len(rows) > 1 and not common
    counted = {}
    for method, clips in having.items():
        counted[method] = tuple(clip for clip in clips if apart or not rows or clip in common)
    return counted, apart


def _pairs(found: Found) -> list[tuple[str, str]]:
    return list(itertools.combinations(found, 2))


def _figures(found: Found, column: Column, protocol: Protocol) -> Summarised:
    key = column.key
    values = {m: {clip: x.values[key] for clip, x in clips.items() if key in x.values} for m, clips in found.items()}
    occurring = column.kind == "occurring"
    if occurring:
        counted, apart = {m: tuple(clips) for m, clips in values.items()}, False
    else:
        counted, apart = _counted({m: list(clips) for m, clips in values.items()})
    over_clips = median_interval if column.kind == "median" else mean_interval
    cells = {}
    for method, clips in counted.items():
        if not clips:
            cells[method] = {key: Summary(None, warning=_NOT_OCCURRING if occurring else _UNMEASURED)}
            continue
        got = over_clips([values[method][c] for c in clips], protocol.resamples, protocol.confidence, protocol.seed)
        warning = "" if occurring else _clip_warning(len(clips), len(values[method]), len(found[method]))
        cells[method] = {key: Summary(got.value, got.low, got.high, len(clips), len(clips), warning)}
    comparisons = []
    for first, second in _pairs(found):
        common = [clip for clip in counted[first] if clip in counted[second]]
        if not common or occurring:
            continue
        gaps = [values[first][clip] - values[second][clip] for clip in common]
        got, p = paired(column.kind, gaps, protocol.resamples, protocol.confidence, protocol.seed)
        comparisons.append(Comparison(key, first, second, got.value, got.low, got.high, p, len(common)))
    return Summarised(cells, comparisons, (key,) if apart else ())


def _closeness(found: Found, column: Column, protocol: Protocol) -> Summarised:
    """How close other columns are to the ground truth's; each counts the clips that its own cells count."""
    counted: dict[str, dict[str, tuple[str, ...]]] = {}
    for key in column.parts:
        counted[key] = _counted({m: [c for c, x in clips.items() if key in x.values] for m, clips in found.items()})[0]

    def figures(method: str) -> list[dict[str, float]]:
        return [{c: found[method][c].values[key] for c in counted[key].get(method, ())} for key in column.parts]

    true = figures(GROUND_TRUTH) if GROUND_TRUTH in found else [{} for _ in column.parts]
    cells = {}
    for method in found:
        made = figures(method)
        lacking = [key for key, one, real in zip(column.parts, made, true, strict=True) if not one or not real]
        if lacking:
            cells[method] = {column.key: Summary(None, warning="One of the figures that it is made of has no value.")}
            continue
        got = closeness(made, true, protocol.resamples, protocol.confidence, protocol.seed)
        clips = len({clip for part in made for clip in part})
        low, high = (None, None) if method == GROUND_TRUTH else (got.low, got.high)
        cells[method] = {column.key: Summary(got.value, low, high, clips, clips)}
    return Summarised(cells, [])


def _clip_warning(counted: int, measured: int, all_clips: int) -> str:
    """Why fewer clips count than a row has, or "".

    Args:
        counted: Clips that count in the cell.
        measured: Clips of the row that have a value.
        all_clips: Clips of the row.
    """
    parts = []
    if measured < all_clips:
        parts.append(f"{all_clips - measured} of {all_clips} clips could not be measured")
    if counted < measured:
        parts.append(f"{measured - counted} of {all_clips} clips do not count, as another row has no value for them")
    return "; ".join(parts)


def _distances(found: Found, column: Column, protocol: Protocol) -> Summarised:
    key = column.key
    features = {m: {c: x.features[key] for c, x in clips.items() if key in x.features} for m, clips in found.items()}
    real = features.get(GROUND_TRUTH, {})
    usable, apart = _counted({m: [c for c in clips if c in real] for m, clips in features.items()})

    def distances(methods: Sequence[str], clips: Sequence[str]) -> Distances:
        sets = [[features[m][c] for c in clips] for m in methods]
        return frechet_distances(sets, [real[c] for c in clips], protocol.frechet_resamples, protocol.seed)

    groups: dict[tuple[str, ...], list[str]] = {}
    for method, clips in usable.items():
        groups.setdefault(clips, []).append(method)
    cells: dict[str, dict[str, Summary]] = {}
    known: dict[tuple[str, ...], Distances] = {}
    for clips, methods in groups.items():
        if not clips:
            cells |= {m: {key: Summary(None, warning=_UNMEASURED)} for m in methods}
            continue
        known[clips] = distances(methods, clips)
        for place, method in enumerate(methods):
            got = known[clips].interval(place, protocol.confidence)
            samples = sum(len(features[method][c]) for c in clips)
            fewer = _clip_warning(len(clips), len(features[method]), len(found[method]))
            warning = _sample_warning(samples, real[clips[0]].shape[1], len(clips), fewer, key, protocol)
            if method == GROUND_TRUTH:
                cells[method] = {key: Summary(got.value, None, None, len(clips), samples, warning)}
            else:
                cells[method] = {key: Summary(got.value, got.low, got.high, len(clips), samples, warning)}
    comparisons = []
    for first, second in _pairs(found):
        common = tuple(c for c in usable[first] if c in usable[second])
        # Against the ground truth the difference is the distance itself.
        if not common or GROUND_TRUTH in (first, second):
            continue
        if usable[first] == usable[second]:
            both, members = known[common], groups[common]
            gap = both.difference(members.index(first), members.index(second), protocol.confidence)
        else:
            gap = distances([first, second], common).difference(0, 1, protocol.confidence)
        comparisons.append(Comparison(key, first, second, gap.value, gap.low, gap.high, None, len(common)))
    return Summarised(cells, comparisons, (key,) if apart else ())


def _sample_warning(samples: int, width: int, clips: int, fewer: str, key: str, protocol: Protocol) -> str:
    least = protocol.min_videos if key == "fvd" else protocol.min_images
    parts = [fewer]
    if samples < least:
        parts.append(
            f"{samples} samples of {clips} clips, alike within a clip: {least} or more are wanted, and fewer raise the distance"
        )
    if samples <= width:
        parts.append(f"{samples} samples for {width} dimensions: the covariance is singular")
    return "; ".join(part for part in parts if part)
