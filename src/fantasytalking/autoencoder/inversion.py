"""Inverse of a smooth displacement: where each place of the new frame came from."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["inverse_displacement", "slopes"]

Array = NDArray[np.float32]

STEPS = 2  # of Newton's method, from a scattered start: they reach a hundredth of a grid step
# from a given start: the step that begins within this of the places, in grid steps, is the last
CLOSE, MOST_STEPS = 0.5, 3
FEW = 0.001  # share of places that may be further off: a sheet is folded where it is not shown
LONGEST_STEP = 3.0  # grid steps


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> Array:
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    grid = np.stack([xs, ys], -1)
    grid.setflags(write=False)
    return grid


def inverse_displacement(forward: Array, start: Array | None = None) -> Array:
    """Invert x -> x + D(x) by Newton's method.

    Args:
        forward: D on a grid [h, w, 2], x and y in grid steps; nowhere folded.
        start: An estimate of the result [h, w, 2], such as that of the frame before. Without it, and where it leads nowhere, every place
            carries its displacement to where it goes for a start.

    Returns:
        B [h, w, 2] with B(y) + D(y + B(y)) = 0.
    """
    grid, slope = _grid(*forward.shape[:2]), _inverse_slopes(forward)
    if start is not None:
        back = start.copy()
        for _ in range(MOST_STEPS):
            rest = _improve(back, forward, slope, grid)
            if cv2.countNonZero(cv2.inRange(np.abs(rest), (0, 0), (CLOSE, CLOSE))) >= (1 - FEW) * grid[..., 0].size:
                return back
    back = _scattered(forward, grid)
    for _ in range(STEPS):
        _improve(back, forward, slope, grid)
    return back


def _improve(back: Array, forward: Array, slope: Array, grid: Array) -> Array:
    """Take a step of Newton's method, in place; by how much the places were off before it [h, w, 2]."""
    at = grid + back
    rest = cv2.remap(forward, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    local = cv2.remap(slope, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rest += back
    x, y = rest[..., 0], rest[..., 1]
    back[..., 0] -= np.clip(local[..., 0] * x + local[..., 1] * y, -LONGEST_STEP, LONGEST_STEP)
    back[..., 1] -= np.clip(local[..., 2] * x + local[..., 3] * y, -LONGEST_STEP, LONGEST_STEP)
    return np.asarray(rest, np.float32)


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
    """Inverse of the Jacobian of x + D(x) at every place, [h, w, 4] in rows, kept finite where it is singular.

    At the border it is that of no slope, as beyond it the displacement is the border's.
    """
    right, down = cv2.split(forward)
    a, b = (cv2.Sobel(right, -1, *along, ksize=1, scale=0.5) for along in ((1, 0), (0, 1)))
    c, d = (cv2.Sobel(down, -1, *along, ksize=1, scale=0.5) for along in ((1, 0), (0, 1)))
    a += 1
    d += 1
    area = 1 / np.maximum(a * d - b * c, 0.05)
    result = cv2.merge([d * area, -b * area, -c * area, a * area])
    for border in (result[0], result[-1], result[:, 0], result[:, -1]):
        border[:] = (1, 0, 0, 1)
    return np.asarray(result, np.float32)


def slopes(field: Array) -> tuple[Array, Array]:
    """Central differences of a field [h, w, n] along x and y."""
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    dx = cv2.filter2D(field, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.filter2D(field, -1, kernel.T.copy(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(dx, np.float32), np.asarray(dy, np.float32)
