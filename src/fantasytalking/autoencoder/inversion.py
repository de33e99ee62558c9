"""Inverse of a smooth displacement: where each place of the new frame came from."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["inverse_displacement", "slopes"]

Array = NDArray[np.float32]

STEPS = 2  # they reach a hundredth of a grid step
LONGEST_STEP = 3.0  # grid steps


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> Array:
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    grid = np.stack([xs, ys], -1)
    grid.setflags(write=False)
    return grid


def inverse_displacement(forward: Array) -> Array:
    """Invert x -> x + D(x): by scattering it for a start, then by Newton's method.

    Args:
        forward: D on a grid [h, w, 2], x and y in grid steps; nowhere folded.

    Returns:
        B [h, w, 2] with B(y) + D(y + B(y)) = 0.
    """
    grid = _grid(*forward.shape[:2])
    back, slope = _scattered(forward, grid), _inverse_slopes(forward)
    step = np.empty_like(back)
    for _ in range(STEPS):
        at = grid + back
        rest = cv2.remap(forward, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        local = cv2.remap(slope, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        rest += back
        step[..., 0] = cv2.transform(local[..., :2] * rest, _SUM)
        step[..., 1] = cv2.transform(local[..., 2:] * rest, _SUM)
        np.clip(step, -LONGEST_STEP, LONGEST_STEP, out=step)
        back -= step
    return back


_SUM = np.ones((1, 2), np.float32)


def _scattered(forward: Array, grid: Array) -> Array:
    """First estimate of the inverse: every place carries its displacement to where it goes, holes take their neighbours' mean."""
    height, width = forward.shape[:2]
    to = np.rint(grid + forward).astype(np.int32)
    place = np.clip(to[..., 1], 0, height - 1) * width + np.clip(to[..., 0], 0, width - 1)
    found = np.zeros((height * width, 3), np.float32)
    carried = np.ones((height, width, 3), np.float32)
    carried[..., :2] = forward
    found[place.ravel()] = carried.reshape(-1, 3)
    found = found.reshape(height, width, 3)
    near, far = cv2.blur(found, (3, 3)), cv2.blur(found, (11, 11))
    for around in (near, far):
        np.copyto(found, around, where=found[..., 2:] == 0)
    return np.asarray(-found[..., :2] / np.maximum(found[..., 2:], 1e-6), np.float32)


def _inverse_slopes(forward: Array) -> Array:
    """Inverse of the Jacobian of x + D(x) at every place, [h, w, 4] in rows, kept finite where it is singular."""
    dx, dy = slopes(forward)
    a, b, c, d = 1 + dx[..., 0], dy[..., 0], dx[..., 1], 1 + dy[..., 1]
    area = 1 / np.maximum(a * d - b * c, 0.05)
    return np.asarray(cv2.merge([d * area, -b * area, -c * area, a * area]), np.float32)


def slopes(field: Array) -> tuple[Array, Array]:
    """Central differences of a field [h, w, n] along x and y."""
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    dx = cv2.filter2D(field, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.filter2D(field, -1, kernel.T.copy(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(dx, np.float32), np.asarray(dy, np.float32)
