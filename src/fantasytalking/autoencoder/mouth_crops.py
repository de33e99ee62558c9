"""Crops around the mouth, aligned to the mesh, and the windows of them that hold what is to be painted.

Letters: N crops, S side of a crop in pixels (256 or, in models of the first version, 128), h and w sides of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.mesh_points import (
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
)

__all__ = [
    "CROP",
    "Windows",
    "crop_bounds",
    "crop_scale",
    "crop_transform",
    "draw_lips",
    "lips_in_crop",
    "mouth_windows",
    "take_crop",
]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

CROP = 256  # S of new painters
CROP_WIDTH = 1.5  # side of the crop in units of the eye distance; a wide open mouth fits
FIRST_CROP, FIRST_CROP_WIDTH = 128, 1.9  # the same of models of the first version
SMALLEST = 0.35  # least scale at which a mouth is drawn in its crop
FINER = (
    2.3  # crop pixels for a pixel of the picture, at most: where full size would be finer, the mouth is drawn smaller
)
WINDOW_STEPS = 8  # a window's sides are multiples of an eighth of the crop's, which the painter's levels need
# how far the mouth region goes beyond the lips, and its softness, in sides of a crop at scale 1
REGION_REACH, REGION_BLUR = 1 / 32, 3 / 128
_RIGHT_EYE = [RIGHT_EYE_OUTER, RIGHT_EYE_INNER]
_LEFT_EYE = [LEFT_EYE_OUTER, LEFT_EYE_INNER]
_MOUTH = [MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT]


class Windows(NamedTuple):
    """Parts of crops, all of one size.

    Attributes:
        corners: Left and top of each in its crop [N, 2], whole numbers.
        width: w.
        height: h.
    """

    corners: NDArray[np.int64]
    width: int
    height: int

    def cut(self, crops: Pixels | Sequence[Pixels]) -> Pixels:
        """Cut the windows out of N crops [S, S, ...]."""
        parts = [
            crop[y : y + self.height, x : x + self.width] for crop, (x, y) in zip(crops, self.corners, strict=True)
        ]
        return np.stack(parts)


def crop_transform(mesh: Array, side: int = CROP, scale: float = 1.0) -> Array:
    """Similarity [2, 3] from image pixels to the mouth crop, of `side` pixels, of a mesh [468, 2 or 3].

    Centre and angle follow the mouth, the size follows the distance between the eyes, so that opening the mouth does not zoom. At a
    `scale` below 1 the mouth is smaller than it could be.
    """
    right, left = mesh[_RIGHT_EYE, :2].mean(0), mesh[_LEFT_EYE, :2].mean(0)
    across = left - right
    distance = max(float(np.hypot(*across)), 1e-3)
    cosine, sine = across / distance
    enlarged = scale * side / ((FIRST_CROP_WIDTH if side == FIRST_CROP else CROP_WIDTH) * distance)
    matrix = enlarged * np.array([[cosine, sine], [-sine, cosine]], np.float32)
    centre = mesh[_MOUTH, :2].mean(0) + 0.12 * distance * np.array([-sine, cosine], np.float32)
    shift = side / 2 - matrix @ centre
    return np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)


def crop_scale(mesh: Array, side: int = CROP) -> float:
    """Scale, `SMALLEST` to 1, at which the mouth of a mesh [468, 2 or 3] is drawn: as fine as the picture, and hardly finer."""
    return float(np.clip(FINER / np.hypot(*crop_transform(mesh, side)[0, :2]), SMALLEST, 1))


def crop_bounds(
    transform: Array, size: tuple[int, int], height: int, width: int, margin: int = 0
) -> tuple[int, int, int, int]:
    """Bounds x0, y0, x1, y1 of a crop of size (w, h) in its image, with a margin in pixels.

    They are empty (x1 <= x0 or y1 <= y0) where crop and image do not meet.
    """
    inverse = cv2.invertAffineTransform(transform)
    across, down = size
    corners = np.array([[0, 0], [across, 0], [0, down], [across, down]], np.float32) @ inverse[:, :2].T + inverse[:, 2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - margin, 0, (width, height)).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + margin, 0, (width, height)).tolist()
    return x0, y0, x1, y1


def take_crop(image: Pixels, transform: Array, size: tuple[int, int] = (CROP, CROP)) -> Pixels:
    """Cut a crop [h, w, 3] of size (w, h) out of an image; areas are averaged where the crop is smaller than its source."""
    scale = float(np.hypot(transform[0, 0], transform[0, 1]))
    if scale < 0.6:  # blur first: warpAffine alone would alias
        sigma = 0.45 / scale
        x0, y0, x1, y1 = crop_bounds(transform, size, image.shape[0], image.shape[1], int(4 * sigma) + 2)
        if x1 > x0 and y1 > y0:
            image = cv2.GaussianBlur(image[y0:y1, x0:x1], (0, 0), sigma)
            transform = np.concatenate([transform[:, :2], transform @ np.array([[x0], [y0], [1]])], 1).astype(
                np.float32
            )
    result: Pixels = cv2.warpAffine(
        image,
        transform,
        size,
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return result


def lips_in_crop(mesh: Array, transform: Array) -> Array:
    """Inner and outer outline of the lips of a mesh [468, 2 or 3] in crop pixels, [2, 20, 2]."""
    outlines = mesh[[LIPS_INNER, LIPS_OUTER], :2]
    return np.asarray(outlines @ transform[:, :2].T + transform[:, 2], np.float32)


def mouth_windows(
    lips: Array, own_lips: Array, side: int, scales: Array | float = 1.0, least: tuple[int, int] = (0, 0)
) -> Windows:
    """Find the windows that hold the mouths to paint and those of the portraits, all as large as the largest must be.

    Args:
        lips: Outlines of the lips to paint, of `lips_in_crop` [N, 2, 20, 2].
        own_lips: Outlines of the portrait's lips in its own crop [N, 2, 20, 2].
        side: S.
        scales: Scale of each crop [N], or of all.
        least: Width and height that the windows have at least.

    Returns:
        Windows whose sides are multiples of S / `WINDOW_STEPS`, inside the crop.
    """
    beyond = np.reshape(scales, (-1, 1)) * side * (REGION_REACH + 2 * REGION_BLUR)
    low = np.minimum(lips.min((1, 2)) - beyond, own_lips[:, 0].min(1))
    high = np.maximum(lips.max((1, 2)) + beyond, own_lips[:, 0].max(1))
    step = side // WINDOW_STEPS
    needed = np.ceil((high - low).max(0) / step).astype(int) * step
    size = np.clip(np.maximum(needed, least), step, side)
    corners = np.rint((low + high - size) / 2).astype(np.int64)
    return Windows(np.clip(corners, 0, side - size), int(size[0]), int(size[1]))


def draw_lips(lips: Array, size: tuple[int, int], scaled: float) -> Pixels:
    """Draw inner mouth, lips (outer minus inner) and mouth region, [3, h, w] uint8, 0 to 255.

    Args:
        lips: Outlines of `lips_in_crop` [2, 20, 2], from the window's corner.
        size: Size (w, h) of the window.
        scaled: Side of the crop times its scale: how far the region goes beyond the lips depends on it.
    """
    across, down = size

    def fill(outline: Array) -> Pixels:
        canvas = np.zeros((down, across), np.uint8)
        cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return canvas

    inner, outer = (fill(outline) for outline in lips)
    reach = 2 * round(scaled * REGION_REACH) + 1
    region = cv2.GaussianBlur(cv2.dilate(outer, np.ones((reach, reach), np.uint8)), (0, 0), scaled * REGION_BLUR)
    return np.stack([inner, np.maximum(outer, inner) - inner, region])
