"""Face crops as SyncNet's pipeline makes them, from boxes of this project's own face mesh.

The original finds faces with S3FD in an image of a quarter of the size, links them over time, fills gaps linearly and smooths with a
median over 13 frames. Here the bundled mesh tracks the face, and its bounds take the place of S3FD's box; the rest is the original's
arithmetic. S3FD's box reaches from the middle of the forehead to the chin, the mesh a little higher; docs/metric-networks.md measures
the effect on the crop.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.networks.network_inputs import check_images

__all__ = ["mesh_boxes", "mouth_crops"]

_SIDE, _SCALE, _MEDIAN, _GREY = 224, 0.4, 13, 110


def mesh_boxes(meshes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bounds x0, y0, x1, y1 [F, 4] of meshes in pixels [F, 468, 2 or 3]."""
    points = np.asarray(meshes, np.float64)[..., :2]
    return np.concatenate([points.min(1), points.max(1)], 1)


def mouth_crops(frames: NDArray[np.uint8], boxes: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Crop as the original does: a square of 1.4 box lengths with the box in its upper middle, so that the chin stays inside.

    With half length s and centre (x, y), each the median over 13 frames: rows y - s to y + 1.8 s, columns x - 1.4 s to x + 1.4 s, grey 110
    outside the image, resized bilinearly to 224. The original's median takes zeros beyond the ends, so in the first and last six frames it
    is biased to the smallest of the neighbours' values; that is kept, and tracks of fewer than seven frames are refused.

    Args:
        frames: uint8 [F, H, W, 3].
        boxes: Bounds x0, y0, x1, y1 in pixels, [F, 4].

    Returns:
        uint8 [F, 224, 224, 3].

    Raises:
        ImageError: `frames` has another type or shape.
        InputError: There is not one box per frame, a box is empty, or there are fewer than seven frames.
    """
    check_images(frames, "frames", "F, H, W, 3")
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape != (len(frames), 4) or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise InputError(f"Crops need a box x0 < x1, y0 < y1 for each of the {len(frames)} frames, not {boxes.shape}.")
    if len(frames) <= _MEDIAN // 2:
        raise InputError(
            f"Crops are smoothed over {_MEDIAN} frames and need at least {_MEDIAN // 2 + 1}, not {len(frames)}."
        )
    half = _median(np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]) / 2)
    x = _median((boxes[:, 0] + boxes[:, 2]) / 2)
    y = _median((boxes[:, 1] + boxes[:, 3]) / 2)
    crops = np.empty((len(frames), _SIDE, _SIDE, 3), np.uint8)
    for i, frame in enumerate(frames):
        pad = int(half[i] * (1 + 2 * _SCALE))
        wide = cv2.copyMakeBorder(frame, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(_GREY,) * 3)
        my, mx = y[i] + pad, x[i] + pad
        top, bottom = int(my - half[i]), int(my + half[i] * (1 + 2 * _SCALE))
        left, right = int(mx - half[i] * (1 + _SCALE)), int(mx + half[i] * (1 + _SCALE))
        crop = wide[max(top, 0) : bottom, max(left, 0) : right]
        if crop.size == 0:
            raise InputError(f"The face box of frame {i} lies outside the {frame.shape[1]} x {frame.shape[0]} picture.")
        crops[i] = cv2.resize(crop, (_SIDE, _SIDE))
    return crops


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, _MEDIAN // 2)
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN), axis=1), np.float64)
