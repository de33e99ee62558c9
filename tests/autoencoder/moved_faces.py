"""Meshes of the example portrait that blink, close their lips or turn, and pictures that show what becomes of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.mesh_points import LEFT_EYE, LIPS_INNER, RIGHT_EYE
from tests.training.synthetic import turn_head

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def blink(mesh: Array, share: float = 1.0) -> Array:
    """Bring the upper lids of a mesh [468, 3] down onto the lower ones, or a share of the way."""
    moved = mesh.copy()
    for outline in (RIGHT_EYE, LEFT_EYE):
        upper, lower = list(outline[1:8]), list(outline[:8:-1])
        moved[upper] += share * (mesh[lower] - mesh[upper])
    return moved


def close_mouth(mesh: Array) -> Array:
    """Bring the inner lips of a mesh [468, 3] together halfway."""
    moved = mesh.copy()
    upper, lower = list(LIPS_INNER[1:10]), list(LIPS_INNER[:10:-1])
    moved[upper] = moved[lower] = (mesh[upper] + mesh[lower]) / 2
    return moved


def turned(mesh: Array, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Turn a mesh [468, 3] by angles in radians."""
    vector = np.array([[pitch, yaw, roll]], np.float32)
    return turn_head(mesh[None], vector, np.zeros((1, 2), np.float32), np.ones(1, np.float32))[0]


def paint(image: Pixels, mesh: Array, outline: tuple[int, ...], colour: tuple[int, int, int]) -> Pixels:
    """Fill an outline of a mesh in a picture with a colour."""
    polygon = np.round(mesh[list(outline), :2] * 16).astype(np.int32)
    return np.asarray(cv2.fillPoly(image.copy(), [polygon], colour, cv2.LINE_8, 4), np.uint8)
