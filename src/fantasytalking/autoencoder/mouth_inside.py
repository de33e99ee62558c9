"""What a portrait shows between its lips, continued where it shows none of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.openings import PlacedOpening

__all__ = ["mouth_inside"]

Pixels = NDArray[np.uint8]

INTERIOR_MARGIN = 2.0  # pixels of the photo around the portrait's inner mouth that count as its inside


def mouth_inside(image: Pixels, placed: PlacedOpening) -> Pixels:
    """The photo with what lies around the inside of the mouth replaced by its dark continuation, [H, W, 3]."""
    polygon = placed.mesh[list(placed.opening.upper) + list(placed.opening.lower[-2:0:-1])]
    lips = np.round(polygon * 16).astype(np.int32)
    inner = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [lips], 255, cv2.LINE_8, 4)
    side = 2 * round(INTERIOR_MARGIN) + 1
    near = cv2.dilate(inner, np.ones((side, side), np.uint8))
    result = image.copy()
    reach = 2 * placed.half_width
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(polygon.min(0) - reach).astype(int), 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(polygon.max(0) + reach).astype(int), 1, (width, height))
    box = slice(y0, y1), slice(x0, x1)
    patch, known, core = image[box].astype(np.float32), near[box] > 0, inner[box] > 0
    if not known.any():
        return result
    away = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5)
    weight = core.astype(np.float32) + 1e-3 * known
    spread = max(1.0, 0.15 * placed.half_width)
    blurred = cv2.GaussianBlur(patch * weight[..., None], (0, 0), spread)
    colour = (patch * weight[..., None]).sum((0, 1)) / weight.sum()
    dark = 0.3 * colour
    total = cv2.GaussianBlur(weight, (0, 0), spread)[..., None]
    filled = (blurred + 1e-2 * colour) / (total + 1e-2)
    share = np.clip(away / (0.25 * placed.half_width), 0, 1)[..., None]
    filled = filled * (1 - share) + dark * share
    result[box] = np.where(known[..., None], image[box], np.rint(filled).clip(0, 255).astype(np.uint8))
    return result
