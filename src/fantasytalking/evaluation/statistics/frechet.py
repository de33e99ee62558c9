"""Frechet distance between Gaussians, and the sums from which it is recomputed for every resample of clips.

    d^2 = |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))        (Dowson and Landau 1982; FID: arXiv:1706.08500, equation 6)

Letters: n samples, d dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.errors import SettingsError

__all__ = ["Gaussian", "Moments", "resampled_gaussians"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over the samples of one clip; those of several clips add up.

    Attributes:
        count: Number of samples, n.
        total: Sum of the samples about a common origin, [d].
        outer: Sum of their outer products, [d, d].
    """

    count: float
    total: Array
    outer: Array

    @classmethod
    def of(cls, features: NDArray[np.floating], origin: NDArray[np.floating] | float = 0.0) -> Moments:
        """Sums of features [n, d] about an origin; one near the mean preserves precision."""
        x = np.asarray(features, np.float64) - origin
        return cls(len(x), x.sum(0), x.T @ x)

    @classmethod
    def add(cls, parts: Sequence[Moments]) -> Moments:
        """Sums of several clips together."""
        total, outer = np.zeros_like(parts[0].total), np.zeros_like(parts[0].outer)
        for part in parts:
            total += part.total
            outer += part.outer
        return cls(sum(part.count for part in parts), total, outer)

    def gaussian(self) -> tuple[Array, Array]:
        """Mean [d] and unbiased covariance [d, d]."""
        mean = self.total / self.count
        return mean, (self.outer - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)


def resampled_gaussians(clips: Sequence[Moments], weights: NDArray[np.integer]) -> tuple[Array, Array]:
    """Gaussians of many resamples at once.

    Args:
        clips: Sums of N clips.
        weights: How often each clip is drawn in each resample, [R, N].

    Returns:
        Means [R, d] and unbiased covariances [R, d, d].
    """
    drawn = np.asarray(weights, np.float64)
    count = drawn @ np.array([clip.count for clip in clips])
    mean = drawn @ np.stack([clip.total for clip in clips]) / count[:, None]
    outer = np.tensordot(drawn, np.stack([clip.outer for clip in clips]), 1)
    centre = count[:, None, None] * mean[:, :, None] * mean[:, None, :]
    return mean, (outer - centre) / np.maximum(count - 1, 1)[:, None, None]


def _root(matrix: Array) -> Array:
    """Symmetric square roots of positive semi-definite matrices [..., d, d]; negative eigenvalues, which are rounding, count as zero."""
    # PyTorch's solver, because its threads can be bounded: numpy's is a hundred times slower where processes compete for the cores.
    values, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(matrix)))
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]) @ np.swapaxes(vectors, -1, -2))


class Gaussian:
    """A Gaussian that others are compared with, or a batch of them; the root of its covariance is computed once.

    Args:
        mean: Mean, [..., d].
        covariance: Covariance, [..., d, d].
    """

    def __init__(self, mean: Array, covariance: Array) -> None:
        self.mean, self.covariance = mean, covariance
        self.root = _root(covariance)

    def distances(self, mean: Array, covariance: Array) -> Array:
        """Squared Frechet distances, as FID is quoted: [...].

        The trace of (C1 C2)^(1/2) is that of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), which needs no complex root and no jitter on
        the diagonal when samples are fewer than dimensions.

        Raises:
            SettingsError: The shapes differ.
        """
        if self.mean.shape != mean.shape or self.covariance.shape != covariance.shape:
            raise SettingsError(
                f"Two Gaussians need means [d] and covariances [d, d] of one d, not {self.mean.shape}, {self.covariance.shape}, "
                f"{mean.shape} and {covariance.shape}; measure both sets with the same network."
            )
        middle = torch.linalg.eigvalsh(torch.from_numpy(self.root @ covariance @ self.root)).numpy()
        overlap = np.sqrt(np.clip(middle, 0, None)).sum(-1)
        traces = [np.trace(c, axis1=-2, axis2=-1) for c in (self.covariance, covariance)]
        gap = ((self.mean - mean) ** 2).sum(-1)
        return np.asarray(np.maximum(gap + traces[0] + traces[1] - 2 * overlap, 0.0))

    def distance(self, mean: Array, covariance: Array) -> float:
        """Squared Frechet distance of a single pair, see `distances`."""
        return float(self.distances(mean, covariance))
