"""Summary of the measurements of clips: a cell for each method and column, and a comparison of every pair of methods."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fantasytalking.evaluation.metrics.metric import Measurement
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Column, Comparison, Summary
from fantasytalking.evaluation.statistics.intervals import Distances, frechet_distances, mean_interval, sign_flip_p

__all__ = ["Found", "Summarised", "summarise"]

Found = Mapping[str, Mapping[str, Measurement]]
"""Measurements by method and clip, with all metrics merged."""


@dataclass(frozen=True)
class Summarised:
    """Cells of the table and comparisons of methods.

    Attributes:
        cells: Method -> column key -> cell.
        comparisons: Comparison for each column and pair of methods with common clips.
    """

    cells: dict[str, dict[str, Summary]]
    comparisons: list[Comparison]


def summarise(found: Found, columns: Sequence[Column], protocol: Protocol) -> Summarised:
    """Compute the cells of the table and the comparisons.

    Args:
        found: The measurements; those of the ground truth are the other side of every Frechet distance.
        columns: Columns of the table.
        protocol: Protocol with resamples, coverage, seed, and the numbers below which a warning is given.
    """
    cells: dict[str, dict[str, Summary]] = {method: {} for method in found}
    comparisons = []
    for column in columns:
        part = _means(found, column, protocol) if column.kind == "mean" else _distances(found, column, protocol)
        for method, cell in part.cells.items():
            cells[method][column.key] = cell[column.key]
        comparisons += part.comparisons
    return Summarised(cells, comparisons)


def _pairs(found: Found) -> list[tuple[str, str]]:
    return list(itertools.combinations(found, 2))


def _means(found: Found, column: Column, protocol: Protocol) -> Summarised:
    key = column.key
    values = {m: {clip: x.values[key] for clip, x in clips.items() if key in x.values} for m, clips in found.items()}
    cells = {}
    for method, clips in values.items():
        warning = _clip_warning(len(clips), len(found[method]))
        if not clips:
            cells[method] = {key: Summary(None, warning="No clip could be measured.")}
            continue
        got = mean_interval(list(clips.values()), protocol.resamples, protocol.confidence, protocol.seed)
        cells[method] = {key: Summary(got.value, got.low, got.high, len(clips), len(clips), warning)}
    comparisons = []
    for first, second in _pairs(found):
        common = [clip for clip in values[first] if clip in values[second]]
        if not common:
            continue
        gaps = [values[first][clip] - values[second][clip] for clip in common]
        got = mean_interval(gaps, protocol.resamples, protocol.confidence, protocol.seed)
        p = sign_flip_p(gaps, protocol.resamples, protocol.seed) if len(gaps) > 1 else None
        comparisons.append(Comparison(key, first, second, got.value, got.low, got.high, p, len(common)))
    return Summarised(cells, comparisons)


def _clip_warning(measured: int, all_clips: int) -> str:
    return f"{all_clips - measured} of {all_clips} clips could not be measured" if measured < all_clips else ""


def _distances(found: Found, column: Column, protocol: Protocol) -> Summarised:
    key = column.key
    features = {m: {c: x.features[key] for c, x in clips.items() if key in x.features} for m, clips in found.items()}
    real = features.get(GROUND_TRUTH, {})
    usable = {m: tuple(c for c in clips if c in real) for m, clips in features.items()}

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
            cells |= {m: {key: Summary(None, warning="No clip could be measured.")} for m in methods}
            continue
        known[clips] = distances(methods, clips)
        for place, method in enumerate(methods):
            got = known[clips].interval(place, protocol.confidence)
            samples = sum(len(features[method][c]) for c in clips)
            warning = _sample_warning(samples, real[clips[0]].shape[1], len(clips), len(found[method]), key, protocol)
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
    return Summarised(cells, comparisons)


def _sample_warning(samples: int, width: int, clips: int, all_clips: int, key: str, protocol: Protocol) -> str:
    least = protocol.min_videos if key == "fvd" else protocol.min_images
    parts = [_clip_warning(clips, all_clips)]
    if samples < least:
        parts.append(
            f"{samples} samples of {clips} clips, alike within a clip: {least} or more are wanted, and fewer raise the distance"
        )
    if samples <= width:
        parts.append(f"{samples} samples for {width} dimensions: the covariance is singular")
    return "; ".join(part for part in parts if part)
