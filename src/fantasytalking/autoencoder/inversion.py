"""Inverse of a smooth displacement: where each place of the new frame came from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

STEPS = 3  # of Newton's method; from the scattered start two reach a hundredth of a pixel


def inverse_displacement(forward: Array) -> Array:
    """Invert x -> x + D(x), by scattering it for a start and Newton's method from there.

    Args:
        forward: D on a grid [h, w, 2], x and y in grid steps; nowhere folded.

    Returns:
        B [h, w, 2] with B(y) + D(y + B(y)) = 0.
    """
    height, width = forward.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    back = _scattered(forward, xs, ys)
    slopes = _inverse_slopes(forward)
    for _ in range(STEPS):
        x, y = xs + back[..., 0], ys + back[..., 1]
        there = cv2.remap(forward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        slope = cv2.remap(slopes, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        rest = back + there
        step_x = slope[..., 0] * rest[..., 0] + slope[..., 1] * rest[..., 1]
        step_y = slope[..., 2] * rest[..., 0] + slope[..., 3] * rest[..., 1]
        back[..., 0] -= np.clip(step_x, -2, 2)
        back[..., 1] -= np.clip(step_y, -2, 2)
    return back


def _scattered(forward: Array, xs: Array, ys: Array) -> Array:
    """First estimate of the inverse: every place carries its displacement to where it goes, holes take their neighbours' mean."""
    height, width = xs.shape
    to_x = np.clip(np.rint(xs + forward[..., 0]), 0, width - 1).astype(np.int32)
    to_y = np.clip(np.rint(ys + forward[..., 1]), 0, height - 1).astype(np.int32)
    place = (to_y * width + to_x).ravel()
    sums = np.empty((height, width, 3), np.float32)
    sums[..., 0] = np.bincount(place, minlength=height * width).reshape(height, width)
    for axis in (0, 1):
        sums[..., axis + 1] = np.bincount(place, forward[..., axis].ravel(), height * width).reshape(height, width)
    for side in (3, 9):
        around = cv2.blur(sums, (side, side))
        sums = np.where(sums[..., :1] > 0, sums, around)
    return np.asarray(-sums[..., 1:] / np.maximum(sums[..., :1], 1e-6), np.float32)


def _inverse_slopes(forward: Array) -> Array:
    """Inverse of the Jacobian of x + D(x) at every place, [h, w, 4] in rows, kept finite where it is singular."""
    dx, dy = slopes(forward)
    a, b, c, d = 1 + dx[..., 0], dy[..., 0], dx[..., 1], 1 + dy[..., 1]
    area = a * d - b * c
    area = np.maximum(area, 0.05)
    return np.asarray(np.stack([d, -b, -c, a], -1) / area[..., None], np.float32)


def slopes(field: Array) -> tuple[Array, Array]:
    """Central differences of a field [h, w, n] along x and y."""
    padded = cv2.copyMakeBorder(field, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    return dx, dy
