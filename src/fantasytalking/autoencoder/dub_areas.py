"""The part of a frame that is made anew when footage is dubbed: a soft area around mouth and chin, or the whole face."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import eye_distance, smoothstep
from fantasytalking.perception.mesh_points import FACE_OVAL, LEFT_EYE_OUTER, LIPS_OUTER, RIGHT_EYE_OUTER

__all__ = ["Area", "dub_outline", "soft_area"]

Array = NDArray[np.float32]
Area = Literal["lips", "face"]

LOWER_OVAL = (323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93)
"""Outline of the lower face, from cheek to cheek around the chin."""
ASIDE, BELOW = 1.12, 1.35
"""How far the area reaches beyond the outline, from the middle of the mouth: a chin that drops takes some of the neck along."""
WHOLE = 1.1
"""The same for the whole face, from its middle."""
SOFT = 0.22
"""Width of the soft edge, inside the outline, in distances between the outer corners of the eyes."""


def dub_outline(mesh: Array, area: Area = "lips") -> Array:
    """Outline [n, 2] in pixels of what may change in a frame, for its mesh [468, 2 or 3]: outside it nothing does."""
    points = mesh[:, :2]
    if area == "face":
        oval = points[list(FACE_OVAL)]
        return np.asarray((oval - oval.mean(0)) * WHOLE + oval.mean(0), np.float32)
    centre = points[list(LIPS_OUTER)].mean(0)
    across = points[LEFT_EYE_OUTER] - points[RIGHT_EYE_OUTER]
    across = across / max(float(np.hypot(*across)), 1e-3)
    axes = np.stack([across, np.array([-across[1], across[0]], np.float32)])
    places = (points[list(LOWER_OVAL)] - centre) @ axes.T
    places[:, 0] *= ASIDE
    places[:, 1] *= np.where(places[:, 1] > 0, BELOW, 1.0)
    return np.asarray(places @ axes + centre, np.float32)


def soft_area(mesh: Array, outline: Array, size: tuple[int, int], scale: float = 1.0) -> Array:
    """Shares of a dubbed area: 0 on the outline and outside it, rising to 1 towards its inside.

    Args:
        mesh: Mesh [468, 2 or 3] in pixels of the frame.
        outline: Outline [n, 2], in pixels of the result.
        size: Height and width of the result.
        scale: Pixels of the result for one pixel of the frame.

    Returns:
        [height, width], 0 to 1.
    """
    inside = np.zeros(size, np.uint8)
    limit = 4 * max(size) + 4096
    cv2.fillPoly(inside, [np.round(np.clip(outline, -limit, limit) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    # the picture's own border is no edge of the area
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    return smoothstep(away / max(SOFT * eye_distance(mesh) * scale, 1.0))
