"""Inverse of a smooth displacement: where each place of the new frame came from.

Displacements are planes, [2, h, w]: OpenCV and NumPy are two to four times as fast with them as with pairs.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["inverse_displacement", "looked_up", "slopes"]

Array = NDArray[np.float32]
Places = NDArray[np.bool_]

STEPS = 2  # of Newton's method, from a scattered start: they reach a hundredth of a grid step
# from a given start: the step that begins within this of the places, in grid steps, is the last
CLOSE, MOST_STEPS = 0.5, 3
FEW = 0.0002  # share of places that may be further off: a sheet is folded where it is not shown
LONGEST_STEP = 3.0  # grid steps


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> Array:
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    grid = np.stack([xs, ys])
    grid.setflags(write=False)
    return np.asarray(grid, np.float32)


def inverse_displacement(
    forward: Array, start: Array | None = None, is_smooth: bool = False, shown: Places | None = None
) -> Array:
    """Invert x -> x + D(x) by Newton's method.

    Args:
        forward: D on a grid [2, h, w], x and y in grid steps; nowhere folded.
        start: An estimate of the result [2, h, w], such as that of the frame before. Without it, and where it leads nowhere, every place
            carries its displacement to where it goes for a start.
        is_smooth: Whether D is folded hardly anywhere, so that the slopes of the estimate serve for those of the result.
        shown: Places of the result that must be right [h, w], where D may be folded at the others; None: all.

    Returns:
        B [2, h, w] with B(y) + D(y + B(y)) = 0.
    """
    grid = _grid(*forward.shape[1:])
    slope = None
    if start is not None:
        back = start.copy()
        slope = None if is_smooth else _inverse_slopes(forward)
        for _ in range(MOST_STEPS):
            rest = _improve(back, forward, slope, grid)
            if _are_close(rest, shown):
                return back
    back = _scattered(forward, grid)
    slope = _inverse_slopes(forward) if slope is None else slope
    for _ in range(STEPS):
        _improve(back, forward, slope, grid)
    return back


def _are_close(rest: Array, shown: Places | None) -> bool:
    """Whether all but a few of the shown places are within `CLOSE`."""
    if cv2.norm(rest.reshape(-1), cv2.NORM_INF) <= CLOSE:
        return True
    far = (np.abs(rest) > CLOSE).any(0)
    if shown is None:
        return bool(np.count_nonzero(far) <= FEW * far.size)
    return bool(np.count_nonzero(far & shown) <= FEW * np.count_nonzero(shown))


def _improve(back: Array, forward: Array, slope: Array | None, grid: Array) -> Array:
    """Take a step of Newton's method, in place; by how much the places were off before it [2, h, w].

    Args:
        back: The estimate [2, h, w].
        forward: As for `inverse_displacement`.
        slope: From `_inverse_slopes`; None takes the slopes of the estimate, which are those of the result where it is close to it.
        grid: Places of the grid [2, h, w].
    """
    at = grid + back
    rest = np.empty_like(back)
    for plane, estimate, out in zip(forward, back, rest, strict=True):
        np.add(looked_up(plane, at), estimate, out=out)
    if slope is None:
        along = [[cv2.Sobel(plane, -1, *axis, ksize=1, scale=0.5) for axis in ((1, 0), (0, 1))] for plane in back]
        along[0][0] += 1
        along[1][1] += 1
    else:
        local = cv2.split(looked_up(slope, at))
        along = [[local[0], local[1]], [local[2], local[3]]]
    for plane, (of_x, of_y) in zip(back, along, strict=True):
        of_x *= rest[0]
        of_y *= rest[1]
        of_x += of_y
        plane -= np.clip(of_x, -LONGEST_STEP, LONGEST_STEP, out=of_x)
    return rest


def looked_up(values: Array, at: Array) -> Array:
    """Values [h, w] or [h, w, 4] at places [2, h, w] of their grid; beyond it they are the border's."""
    found = cv2.remap(values, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def _scattered(forward: Array, grid: Array) -> Array:
    """First estimate of the inverse: every place carries its displacement to where it goes, holes take their neighbours' mean."""
    _, height, width = forward.shape
    to = np.rint(grid + forward).astype(np.int32)
    place = np.clip(to[1], 0, height - 1) * width + np.clip(to[0], 0, width - 1)
    found = np.zeros((height * width, 3), np.float32)
    carried = np.ones((height, width, 3), np.float32)
    carried[..., :2] = forward.transpose(1, 2, 0)
    found[place.ravel()] = carried.reshape(-1, 3)
    found = found.reshape(height, width, 3)
    near, far = cv2.blur(found, (3, 3)), cv2.blur(found, (11, 11))
    for around in (near, far):
        np.copyto(found, around, where=found[..., 2:] == 0)
    result = -found[..., :2] / np.maximum(found[..., 2:], 1e-6)
    return np.ascontiguousarray(result.transpose(2, 0, 1), np.float32)


def _inverse_slopes(forward: Array) -> Array:
    """Inverse of the Jacobian of x + D(x) at every place, [h, w, 4] in rows, kept finite where it is singular.

    At the border it is that of no slope, as beyond it the displacement is the border's.
    """
    right, down = forward
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
    """Central differences of the planes of a field [n, h, w] along x and y."""
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    dx, dy = (
        np.stack([cv2.filter2D(plane, -1, along, borderType=cv2.BORDER_REPLICATE) for plane in field])
        for along in (kernel, kernel.T.copy())
    )
    return np.asarray(dx, np.float32), np.asarray(dy, np.float32)
