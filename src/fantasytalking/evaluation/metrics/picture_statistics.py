"""Statistics of single images: sharpness, contrast, colourfulness, naturalness; plain arithmetic without a network.

Letters: H height, W width, n patches.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Frames

__all__ = ["appeal", "colourfulness", "laplacian_variance", "natural_distance", "natural_features"]

_PATCH = 64
_SCALES = 2
_SHAPES = np.arange(0.2, 10.001, 0.01)
_RATIOS = np.array([math.gamma(2 / a) ** 2 / (math.gamma(1 / a) * math.gamma(3 / a)) for a in _SHAPES])


def laplacian_variance(image: Frames, box: tuple[float, float, float, float] | None = None) -> float:
    """Sharpness: variance of the Laplacian of the grey image, of all of it or inside a box x0, y0, x1, y1 in pixels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if box is not None:
        height, width = grey.shape
        x0, x1 = np.clip(np.round(box[::2]), 0, width).astype(int)
        y0, y1 = np.clip(np.round(box[1::2]), 0, height).astype(int)
        if x1 - x0 < 3 or y1 - y0 < 3:
            return 0.0
        grey = grey[y0:y1, x0:x1]
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def colourfulness(image: Frames) -> float:
    """Hasler and Suesstrunk (2003): spread and size of the opponent colours; 0 is grey, about 45 a colourful photo."""
    r, g, b = (image[..., k].astype(np.float64) for k in range(3))
    opponent = np.stack([r - g, 0.5 * (r + g) - b])
    spread, size = np.linalg.norm(opponent.std(axis=(1, 2))), np.linalg.norm(opponent.mean(axis=(1, 2)))
    return float(spread + 0.3 * size)


def appeal(image: Frames) -> float:
    """Mean of sharpness, contrast and colourfulness, each scaled to 0..1: statistics in place of taste.

    Sharpness is the logarithm of the Laplacian's variance from 1 to 10,000, contrast the standard deviation of the grey values over
    80, colourfulness is divided by 60; all are clipped to 0..1.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sharp = math.log10(max(laplacian_variance(image), 1.0)) / 4
    return float(np.clip([sharp, grey.std() / 80, colourfulness(image) / 60], 0, 1).mean())


def _generalised_gaussian(values: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and scale of a generalised Gaussian by moment matching (Sharifi and Leon-Garcia 1995)."""
    sigma = float(np.sqrt((values**2).mean()))
    ratio = sigma**2 / max(float(np.abs(values).mean()) ** 2, 1e-12)
    return float(_SHAPES[np.abs(1 / _RATIOS - ratio).argmin()]), sigma


def _asymmetric(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Shape, mean, left and right scale of an asymmetric generalised Gaussian (Lasmar et al. 2009)."""
    left, right = values[values < 0], values[values > 0]
    sl = float(np.sqrt((left**2).mean())) if len(left) else 1e-6
    sr = float(np.sqrt((right**2).mean())) if len(right) else 1e-6
    gamma = sl / max(sr, 1e-6)
    r = float(np.abs(values).mean()) ** 2 / max(float((values**2).mean()), 1e-12)
    big = r * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shape = float(_SHAPES[np.abs(_RATIOS - big).argmin()])
    mean = (sr - sl) * math.gamma(2 / shape) / math.gamma(1 / shape)
    return shape, mean, sl, sr


def _patch_features(patch: NDArray[np.float64]) -> list[float]:
    features = list(_generalised_gaussian(patch))
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        features += _asymmetric(patch * np.roll(patch, (dy, dx), (0, 1)))
    return features


def natural_features(image: Frames) -> NDArray[np.float64]:
    """Natural scene statistics of the sharper patches of an image: [n, 36].

    As NIQE computes them (Mittal, Soundararajan and Bovik 2013): locally normalised luminance, shape and scale of its distribution and
    of the products of neighbours, at two scales, in patches of 64 pixels.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    rows, columns = max(1, grey.shape[0] // _PATCH), max(1, grey.shape[1] // _PATCH)
    per_scale, sharpness = [], np.zeros(0)
    for scale in range(_SCALES):
        side = _PATCH >> scale
        mean = cv2.GaussianBlur(grey, (7, 7), 7 / 6)
        deviation = np.sqrt(np.abs(cv2.GaussianBlur(grey * grey, (7, 7), 7 / 6) - mean * mean))
        normal = (grey - mean) / (deviation + 1)
        cells = [
            (slice(r * side, (r + 1) * side), slice(c * side, (c + 1) * side))
            for r in range(rows)
            for c in range(columns)
        ]
        if scale == 0:
            sharpness = np.array([deviation[cell].mean() for cell in cells])
        per_scale.append([_patch_features(normal[cell]) for cell in cells])
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_CUBIC)
    features = np.concatenate([np.array(values) for values in per_scale], axis=1)
    return np.asarray(features[sharpness >= 0.5 * sharpness.max()])


def natural_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """NIQE's distance between two sets of features [n, 36]: that of their means, in units of their joint covariance; 0 for equal sets."""
    gap = first.mean(0) - second.mean(0)
    joint = (np.cov(first.T) + np.cov(second.T)) / 2
    return float(np.sqrt(max(0.0, gap @ np.linalg.pinv(joint, rcond=1e-6, hermitian=True) @ gap)))
