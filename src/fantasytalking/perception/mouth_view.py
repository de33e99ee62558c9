"""Input of the lip-sync network: the mouth's shape without head pose, and a grey crop that follows the head but not the jaw.

Both come from a tracked 468-point mesh. The crop is placed by the points that speech hardly moves, so that an opening mouth is seen
as motion and not centred away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.perception.alignment import rigid_align, rigid_restore
from fantasytalking.perception.mesh_points import (
    INNER_LIP_PAIRS,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    NUM_POINTS,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
)

JAW = (152, 377, 400, 378, 379, 365, 397, 148, 176, 149, 150, 136, 172, 18, 200, 199, 175, 205, 425, 212, 432)
"""Chin, lower outline, the skin below the lips and of the cheeks beside them."""
SHAPE_POINTS = (*LIPS_OUTER, *LIPS_INNER, *JAW)
SHAPE_DIM = 3 * len(SHAPE_POINTS) + len(INNER_LIP_PAIRS) + 1
CROP_HEIGHT, CROP_WIDTH = 56, 84
CROP_SPAN = 1.6  # width of the crop in units of the distance between the eyes
CROP_DROP = 0.12  # its middle lies this far below the mouth's, in the same unit: the chin is seen, the nose is not
MIN_SCORE = 0.5
POSE_SMOOTHING = 1.5  # frames; takes out the jitter of the mesh network
_EYES = ((RIGHT_EYE_OUTER, RIGHT_EYE_INNER), (LEFT_EYE_INNER, LEFT_EYE_OUTER))
_CORNERS = (MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT)


@dataclass(frozen=True)
class MouthView:
    """The mouth of one clip, frame by frame.

    Attributes:
        shape: [F, SHAPE_DIM] float32: displacement of lip, chin and cheek points from the clip's mean, then the gaps of the
            inner lips and the mouth's width as they are; unit: a tenth of the distance between the eyes.
        crops: [F, CROP_HEIGHT, CROP_WIDTH] uint8 grey.
    """

    shape: NDArray[np.float32]
    crops: NDArray[np.uint8]


def eye_distance(mesh: NDArray[np.float32]) -> float:
    """Distance between the middles of the eyes of a mesh [468, 3], in its unit; with depth, so that turning the head hardly matters."""
    right, left = (mesh[list(eye)].mean(0) for eye in _EYES)
    return max(float(np.linalg.norm(left - right)), 1e-6)


def bridge_gaps(points: NDArray[np.float32], scores: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Meshes [F, 468, 3] with those of a score below `MIN_SCORE` interpolated between their neighbours in time."""
    if scores is None:
        return points
    seen = np.flatnonzero(np.asarray(scores) >= MIN_SCORE)
    if len(seen) in (0, len(points)):
        return points
    times = np.arange(len(points))
    after = np.clip(np.searchsorted(seen, times), 0, len(seen) - 1)
    before = np.maximum(after - 1, 0)
    left, right = seen[before], seen[after]
    left = np.where(times >= right, right, left)
    share = np.clip((times - left) / np.maximum(right - left, 1), 0, 1)[:, None, None]
    return np.asarray(points[left] * (1 - share) + points[right] * share, np.float32)


def smooth(curve: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Gaussian over time [F, ...] of standard deviation `width` frames; the ends repeat."""
    reach = max(1, int(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.concatenate([curve[:1].repeat(reach, 0), curve, curve[-1:].repeat(reach, 0)])
    total = sum(k * padded[i : i + len(curve)] for i, k in enumerate(kernel / kernel.sum()))
    return np.asarray(total, np.float32)


def mouth_shape(aligned: NDArray[np.float32], unit: float) -> NDArray[np.float32]:
    """Shape numbers [F, SHAPE_DIM] of pose-free meshes [F, 468, 3] whose eyes are `unit` apart (see `MouthView`)."""
    lips = aligned[:, list(SHAPE_POINTS)]
    moved = (lips - lips.mean(0)).reshape(len(lips), -1)
    gaps = [np.linalg.norm(aligned[:, a] - aligned[:, b], axis=-1) for a, b in (*INNER_LIP_PAIRS, _CORNERS)]
    gaps[-1] = gaps[-1] - 0.8 * unit  # about the mean width of a mouth
    return np.asarray(np.concatenate([moved, np.stack(gaps, 1)], 1) * (10.0 / unit), np.float32)


def see_mouth(
    frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    points: NDArray[np.float32],
    scores: NDArray[np.float32] | None,
    template: NDArray[np.float32],
) -> MouthView:
    """Take shape and crops from a tracked clip.

    Args:
        frames: [F, H, W, 3] RGB, or an iterable of F such frames.
        points: [F, 468, 3] mesh in pixels.
        scores: [F] face presence; frames below `MIN_SCORE` take their mesh from their neighbours. None trusts all.
        template: [468, 3] mesh of an average upright face, any unit.

    Raises:
        InputError: there is no frame, or the shapes do not fit together.
    """
    points = np.asarray(points, np.float32)
    if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 3) or not len(points):
        raise InputError(f"A tracked clip needs points [F, {NUM_POINTS}, 3] with F >= 1, not {points.shape}.")
    points = bridge_gaps(points, scores)
    aligned, scale, rotation, translation = rigid_align(points, template)
    unit = eye_distance(template)
    placed = _placement(aligned, scale, rotation, translation, unit)
    crops = [take_mouth(frame, matrix) for frame, matrix in zip(frames, placed, strict=False)]
    if len(crops) != len(points):
        raise InputError(f"A tracked clip needs as many frames as meshes, but has {len(crops)} and {len(points)}.")
    return MouthView(mouth_shape(aligned, unit), np.stack(crops))


def _placement(
    aligned: NDArray[np.float32],
    scale: NDArray[np.float32],
    rotation: NDArray[np.float32],
    translation: NDArray[np.float32],
    unit: float,
) -> NDArray[np.float32]:
    """Similarities [F, 2, 3] from image pixels to the crop: position and angle of the head, the clip's mean mouth."""
    centre = aligned[:, list(_CORNERS)].mean((0, 1)) + np.array([0, CROP_DROP * unit, 0], np.float32)
    ends = np.stack([centre - [unit, 0, 0], centre, centre + [unit, 0, 0]]).astype(np.float32)  # noqa: RUF005 - arrays
    shown = rigid_restore(np.repeat(ends[None], len(aligned), 0), scale, rotation, translation)[..., :2]
    shown = smooth(shown, POSE_SMOOTHING)
    zoom = CROP_WIDTH / (CROP_SPAN * unit) * smooth(scale[:, None], POSE_SMOOTHING)[:, 0]
    across = shown[:, 2] - shown[:, 0]
    across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
    cosine, sine = zoom * across[:, 0], zoom * across[:, 1]
    linear = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], 1)
    middle = np.array([(CROP_WIDTH - 1) / 2, (CROP_HEIGHT - 1) / 2])
    shift = middle - np.einsum("fij,fj->fi", linear, shown[:, 1])
    return np.concatenate([linear, shift[..., None]], -1).astype(np.float32)


def take_mouth(frame: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey crop [CROP_HEIGHT, CROP_WIDTH] of a frame [H, W, 3]; twice as large first, then averaged, against aliasing."""
    twice = 2 * matrix
    twice[:, 2] += 0.5
    size = (2 * CROP_WIDTH, 2 * CROP_HEIGHT)
    large = cv2.warpAffine(frame, twice, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (CROP_WIDTH, CROP_HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
