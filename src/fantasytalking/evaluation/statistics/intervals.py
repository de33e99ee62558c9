"""Uncertainty of figures: bootstrap over clips, and paired comparison of two methods.

Frames of a clip are alike, so the clip is the unit of resampling, never the frame. Letters: N clips, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from fantasytalking.evaluation.statistics.frechet import Gaussian, Moments, resampled_gaussians
from fantasytalking.system.processes import threads

__all__ = [
    "Distances",
    "Interval",
    "draws",
    "frechet_distances",
    "mean_interval",
    "median_interval",
    "paired",
    "sign_flip_p",
]

Features = NDArray[np.floating]
LEADING = 64
"""Principal directions in which Frechet distances are resampled."""
FEWEST = 5
"""Number of clips below which there is no interval: resamples of so few are nearly all alike, and their spread is far too small."""
EXACT = 14
"""Number of clips up to which all sign patterns are tried instead of random ones."""


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval.

    Attributes:
        value: The value.
        low: Lower end; None where there are too few clips for an interval.
        high: Upper end; None where there are too few clips for an interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


def draws(clips: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Draw resamples: how often each clip is drawn in each, [R, N], rows summing to N; a function of the arguments."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.multinomial(clips, np.full(clips, 1 / clips), size=resamples))


def mean_interval(values: Sequence[float], resamples: int, confidence: float, seed: int) -> Interval:
    """Mean over clips with its percentile bootstrap interval, for `FEWEST` clips or more."""
    array = np.asarray(values, np.float64)
    if len(array) < FEWEST:
        return Interval(float(array.mean()))
    means = draws(len(array), resamples, seed) @ array / len(array)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(array.mean()), float(low), float(high))


def median_interval(values: Sequence[float], resamples: int, confidence: float, seed: int) -> Interval:
    """Median over clips with its percentile bootstrap interval, for `FEWEST` clips or more."""
    array = np.asarray(values, np.float64)
    if len(array) < FEWEST:
        return Interval(float(np.median(array)))
    chosen = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(array[chosen], axis=1), [tail, 1 - tail])
    return Interval(float(np.median(array)), float(low), float(high))


def paired(
    kind: str, gaps: Sequence[float], resamples: int, confidence: float, seed: int
) -> tuple[Interval, float | None]:
    """Compare two rows by their differences on the same clips.

    Args:
        kind: Kind of the column, `mean` or `median`.
        gaps: Difference of each clip.
        resamples: Number of resamples.
        confidence: Coverage of the interval.
        seed: Seed of the resamples.

    Returns:
        The mean or median difference with its interval; and p of a sign-flip test, of the differences or, for medians, of their signed
        ranks (Wilcoxon), None for a single clip.
    """
    if kind == "median":
        got = median_interval(gaps, resamples, confidence, seed)
        tested = list(np.sign(gaps) * rankdata(np.abs(gaps)))
    else:
        got, tested = mean_interval(gaps, resamples, confidence, seed), list(gaps)
    return got, sign_flip_p(tested, resamples, seed) if len(tested) > 1 else None


def sign_flip_p(differences: Sequence[float], resamples: int, seed: int) -> float:
    """Two-sided p of paired differences: how often random signs give a mean at least as far from 0.

    All 2^N sign patterns for up to `EXACT` clips, else `resamples` random ones, with the observed one counted in.
    """
    array = np.asarray(differences, np.float64)
    count = len(array)
    if count <= EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        means = np.abs(signs @ array)
        return float((means >= abs(array.sum()) - 1e-12).mean())
    signs = np.random.default_rng(seed).choice([-1, 1], size=(resamples, count))
    hits = int((np.abs(signs @ array) >= abs(array.sum()) - 1e-12).sum())
    return (hits + 1) / (resamples + 1)


@dataclass(frozen=True)
class Distances:
    """Frechet distances of several sets to the same real clips, with resamples of the clips.

    Attributes:
        values: Distances of M sets, [M].
        resampled: Their resamples, [M, R]; R is 0 with fewer than `FEWEST` clips.
    """

    values: NDArray[np.float64]
    resampled: NDArray[np.float64]

    def interval(self, index: int, confidence: float) -> Interval:
        """One distance and its interval, clipped at 0."""
        found = _normal(float(self.values[index]), self.resampled[index], confidence)
        return found if found.low is None else Interval(found.value, max(0.0, found.low), found.high)

    def difference(self, first: int, second: int, confidence: float) -> Interval:
        """The first distance minus the second, on the same resamples."""
        gap = float(self.values[first] - self.values[second])
        return _normal(gap, self.resampled[first] - self.resampled[second], confidence)


def _normal(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    """Value +- z times the spread of the resamples.

    Not their percentiles: a resample contains fewer different clips than the set, which raises a Frechet distance, so their
    percentiles may lie above the value itself.
    """
    if len(resampled) < 2:
        return Interval(value)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * float(resampled.std(ddof=1))
    return Interval(value, value - reach, value + reach)


def frechet_distances(
    sets: Sequence[Sequence[Features]], true: Sequence[Features], resamples: int, seed: int
) -> Distances:
    """Frechet distances of generated sets to the real clips; clips and their references are drawn together, for all sets alike.

    The values use all dimensions. Resamples use the `LEADING` principal directions of all features together, which contain nearly
    all of a distance: a covariance of 2048 dimensions takes seconds, and hundreds of them are needed.

    Args:
        sets: Features [n, d] of the clips of each method.
        true: Features of the clips' references, in the same order.
        resamples: Number of resamples, R.
        seed: Seed of the resamples.
    """
    with threads(1):
        return _frechet_distances(sets, true, resamples, seed)


def _frechet_distances(
    sets: Sequence[Sequence[Features]], true: Sequence[Features], resamples: int, seed: int
) -> Distances:
    everything = [*true, *(clip for made in sets for clip in made)]
    # Sums about the common mean preserve precision.
    pooled = Moments.add([Moments.of(clip) for clip in everything])
    origin = pooled.total / pooled.count
    real = Gaussian(*Moments.add([Moments.of(clip, origin) for clip in true]).gaussian())
    values = [real.distance(*Moments.add([Moments.of(clip, origin) for clip in made]).gaussian()) for made in sets]
    if len(true) < FEWEST:
        return Distances(np.array(values), np.zeros((len(sets), 0)))
    directions = torch.linalg.eigh(torch.from_numpy(pooled.gaussian()[1]))[1].numpy()[:, ::-1][:, :LEADING]
    weights = draws(len(true), resamples, seed)
    small = [
        resampled_gaussians([Moments.of((clip - origin) @ directions) for clip in made], weights)
        for made in (true, *sets)
    ]
    target = Gaussian(*small[0])
    return Distances(np.array(values), np.array([target.distances(*made) for made in small[1:]]))
