"""Closeness of a method's figures to those of the ground truth, as in THEval (arXiv:2511.04520, equation 12).

Letters: P figures, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.statistics.intervals import FEWEST, Interval, draws

__all__ = ["closeness"]

_SMALLEST = 1e-9
"""Figures of the ground truth below it can be the measure of nothing, as in the published code."""


def closeness(
    made: Sequence[Mapping[str, float]],
    true: Sequence[Mapping[str, float]],
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Mean over figures of ``1 - |m - t| / |t|``, where m and t are a figure's means over clips.

    Args:
        made: For each figure, P of them: name of a clip -> value of the method.
        true: Likewise of the ground truth.
        resamples: Number of resamples of clips, in which a method and the ground truth have the same clips.
        confidence: Coverage of the interval.
        seed: Seed of the resamples.

    Returns:
        1 for the ground truth itself, negative for what is further from it than nothing; without an interval for fewer than `FEWEST` clips.
    """
    names = sorted({name for part in (*made, *true) for name in part})
    ours, real = _table(made, names), _table(true, names)
    every = np.ones((1, len(names)))
    value = float(_scores(every, ours, real)[0])
    if len(names) < FEWEST:
        return Interval(value)
    tail = (1 - confidence) / 2
    # a resample may hold no clip that has a figure
    found = _scores(draws(len(names), resamples, seed).astype(np.float64), ours, real)
    low, high = np.nanquantile(found, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _table(parts: Sequence[Mapping[str, float]], names: Sequence[str]) -> NDArray[np.float64]:
    """Values [P, clips], NaN where a clip has none."""
    return np.array([[part.get(name, np.nan) for name in names] for part in parts], np.float64)


def _scores(weights: NDArray[np.float64], ours: NDArray[np.float64], real: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [R] for clips that count as often as the weights [R, clips] say."""
    m, t = (_means(weights, values) for values in (ours, real))
    scores: NDArray[np.float64] = (1 - np.abs(m - t) / np.maximum(np.abs(t), _SMALLEST)).mean(axis=0)
    return scores


def _means(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    counts = known @ weights.T
    sums = np.where(known, values, 0) @ weights.T
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means
