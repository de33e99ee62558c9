"""Eyelids of the embedded model: how a lid moves over the eye, and blinks, which are drawn as speech hardly tells them.

A blink closes both eyes together, the upper lid comes down over most of the eye and the lower lid rises a little, and it opens more
slowly than it closes: 0.1 s down, a moment closed, 0.15 to 0.2 s up (Stern et al. 1984, "The endogenous eyeblink"). People who talk
blink 15 to 26 times a minute (Bentivoglio et al. 1997).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.perception.face_measures import eye_opening
from fantasytalking.perception.mesh_points import (
    LEFT_LID_RINGS,
    LEFT_LIDS,
    RIGHT_LID_RINGS,
    RIGHT_LIDS,
)

__all__ = ["EYES", "LID_POINTS", "blink_rate", "close_lids", "draw_blinks", "lid_closure", "lid_opening"]

EYES = ((RIGHT_LIDS, RIGHT_LID_RINGS), (LEFT_LIDS, LEFT_LID_RINGS))
"""Lid pairs and rings of the person's right and left eye."""
LID_POINTS = tuple(point for lids, rings in EYES for row in (*lids, rings[0], rings[2]) for point in row)
"""Points that a lid carries: expression leaves them to the lids."""
UPPER_SHARE = 0.95  # where the lids meet, from the upper one's place
RING_SHARE = (0.55, 0.15, 0.35)  # how far a ring follows the lid that it lies beside: two above, one below


def lid_opening(points: Tensor) -> Tensor:
    """Gap between the lids over the width of the eye, meshes [..., 468, 2 or 3] -> [..., 2], right and left eye."""
    return torch.from_numpy(eye_opening(points.numpy()))


def lid_closure(points: Tensor, portrait: Tensor) -> Tensor:
    """How far the lids of meshes [..., 468, 3] are closed relative to a portrait's [468, 3]: [..., 2], 0 (as in it) to 1 (closed)."""
    return (1 - lid_opening(points) / lid_opening(portrait).clamp_min(1e-6)).clamp(0, 1)


def close_lids(points: Tensor, closure: Tensor) -> Tensor:
    """Move the lids over the eyes.

    Args:
        points: Meshes [F, 468, 3].
        closure: [F, 2], 0 (as the mesh has it) to 1 (the lids meet), right and left eye.

    Returns:
        [F, 468, 3]; skin between lid and brow follows in part, the corners of the eyes and the brows stay.
    """
    result = points.clone()
    for eye, ((upper, lower), (above, higher, below)) in enumerate(EYES):
        gap = points[:, list(lower)] - points[:, list(upper)]
        down = UPPER_SHARE * closure[:, eye, None, None] * gap
        up = (UPPER_SHARE - 1) * closure[:, eye, None, None] * gap
        result[:, list(upper)] += down
        result[:, list(lower)] += up
        for ring, share, motion in zip((above, higher, below), RING_SHARE, (down, down, up), strict=True):
            result[:, list(ring)] += share * motion
    return result


def blink_rate(w_face: float) -> float:
    """Blinks a minute at an intensity of facial motion of 0 to 1: 14 to 21."""
    return 14.0 + 7.0 * min(max(w_face, 0.0), 1.0)


def draw_blinks(frames: int, fps: float, seed: int, w_face: float, first: int = 0) -> NDArray[np.float32]:
    """Draw when and how a person blinks.

    Intervals have a least length and a long tail, as those of people do; the first blink comes at any time within an interval.

    Args:
        frames: F.
        fps: Frame rate.
        seed: The same seed gives the same blinks, and a longer video begins with those of a shorter one.
        w_face: Intensity of facial motion, which moves the rate.
        first: Number of the first frame, for a later part of a video.

    Returns:
        Closure of both eyes [F], 0 to 1.
    """
    rng = np.random.default_rng((seed, 0xB11E))
    least, mean = 1.2, 60.0 / blink_rate(w_face)
    time = np.arange(first, first + frames) / fps
    closure = np.zeros(frames, np.float32)
    start = rng.uniform(0.5, mean)
    while start < (first + frames) / fps:
        closing, closed, opening = rng.uniform(0.09, 0.12), rng.uniform(0.05, 0.08), rng.uniform(0.14, 0.18)
        if start + closing + closed + opening > first / fps:
            since = time - start
            down = np.clip(since / closing, 0, 1)
            up = np.clip((since - closing - closed) / opening, 0, 1)
            closure = np.maximum(closure, _smooth(down) * (1 - _smooth(up)))
        start += least + rng.gamma(2.0, (mean - least) / 2.0)
    return closure.astype(np.float32)


def _smooth(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return share * share * (3 - 2 * share)
