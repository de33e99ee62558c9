"""Frechet distance between Gaussians, and sums from which it is computed again for every resample of clips.

    d^2 = |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))        (Dowson and Landau 1982; FID: arXiv:1706.08500, equation 6)

Letters: n samples, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import SettingsError

__all__ = ["Gaussian", "Moments", "frechet_between", "frechet_distance"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over the samples of one clip; those of several clips add up.

    Attributes:
        count: n.
        total: [d] sum of the samples, about a common origin.
        outer: [d, d] sum of their outer products.
    """

    count: float
    total: Array
    outer: Array

    @classmethod
    def of(cls, features: NDArray[np.floating], origin: NDArray[np.floating] | float = 0.0) -> Moments:
        """Sums of features [n, d] minus an origin; one near the mean keeps the digits."""
        x = np.asarray(features, np.float64) - origin
        return cls(len(x), x.sum(0), x.T @ x)

    @classmethod
    def add(cls, parts: Sequence[Moments], weights: Sequence[float] | NDArray[np.integer] | None = None) -> Moments:
        """Weighted sum; weight k counts a clip k times."""
        w = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
        count = float(sum(k * p.count for k, p in zip(w, parts, strict=True)))
        total, outer = np.zeros_like(parts[0].total), np.zeros_like(parts[0].outer)
        for k, part in zip(w, parts, strict=True):
            if k:
                total += k * part.total
                outer += k * part.outer
        return cls(count, total, outer)

    def gaussian(self) -> tuple[Array, Array]:
        """Mean [d] and unbiased covariance [d, d]."""
        mean = self.total / self.count
        return mean, (self.outer - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)


def _root(matrix: Array) -> Array:
    """Symmetric square root of a positive semi-definite matrix; rounding below zero is cut."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


class Gaussian:
    """A Gaussian that others are compared with; the root of its covariance is taken once.

    Args:
        mean: [d].
        covariance: [d, d].
    """

    def __init__(self, mean: Array, covariance: Array) -> None:
        self.mean, self.covariance = mean, covariance
        self.root = _root(covariance)

    def distance(self, mean: Array, covariance: Array) -> float:
        """Squared Frechet distance, as FID is quoted.

        The trace of (C1 C2)^(1/2) is that of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), which needs no complex root and no jitter on
        the diagonal when samples are fewer than dimensions.

        Raises:
            SettingsError: shapes that do not agree.
        """
        if self.mean.shape != mean.shape or self.covariance.shape != covariance.shape:
            raise SettingsError(
                f"Two Gaussians need means [d] and covariances [d, d] of one d, not {self.mean.shape}, {self.covariance.shape}, "
                f"{mean.shape} and {covariance.shape}; measure both sets with the same network."
            )
        middle = np.linalg.eigvalsh(self.root @ covariance @ self.root)
        overlap = float(np.sqrt(np.clip(middle, 0, None)).sum())
        spread = float(np.trace(self.covariance) + np.trace(covariance)) - 2 * overlap
        return max(0.0, float(((self.mean - mean) ** 2).sum()) + spread)


def frechet_distance(mean1: Array, cov1: Array, mean2: Array, cov2: Array) -> float:
    """Squared Frechet distance of two Gaussians, means [d] and covariances [d, d]; see `Gaussian.distance`."""
    return Gaussian(mean1, cov1).distance(mean2, cov2)


def frechet_between(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets."""
    return frechet_distance(*first.gaussian(), *second.gaussian())
