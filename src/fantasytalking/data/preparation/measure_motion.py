"""Raw motion of face and body in a clip, which the set's percentiles turn into w_face and w_body (paper, section 3.3).

The paper takes the variance over time of facial landmarks and of body joints. Here landmarks are first normalised for translation,
size and head pose, so that w_face measures expression, and joints by the width of the shoulders, so that w_body does not depend on the
size of the person in the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import MissingDependencyError
from fantasytalking.perception import body
from fantasytalking.perception.alignment import rigid_align, rigid_restore
from fantasytalking.perception.lip_sync import LipSync
from fantasytalking.perception.mesh_points import RIGID_POINTS
from fantasytalking.perception.mouth_view import bridge_gaps, smooth

__all__ = ["SHOULDERS", "BodyTrack", "body_motion", "face_motion", "find_joints", "head_motion", "raw_motion"]

Array = NDArray[np.float32]

SHOULDERS = 6.0
"""Approximate width of the shoulders in distances between the eyes; brings head motion to the scale of body motion."""
_SMOOTHING = 0.7  # frames; removes the jitter of the mesh network, keeps syllables
_VISIBLE = 0.5
_OFTEN = 0.8


@dataclass(frozen=True)
class BodyTrack:
    """Joints of a clip.

    Attributes:
        joints: Joints [F, J, 3]: x and y in pixels, visibility 0..1; interpolated between the frames that were searched.
        shoulders: Indices of the two shoulders.
        upper: Indices of the joints that body motion is measured on.
    """

    joints: Array
    shoulders: tuple[int, int]
    upper: tuple[int, ...]


def raw_motion(points: Array, scores: Array, track: BodyTrack, height: int, width: int) -> tuple[Array, str]:
    """Measure the raw motion of face and body.

    Args:
        points: Mesh [F, 468, 3] in pixels.
        scores: Face presence [F], 0..1.
        track: Joints in the same pixels.
        height: Height of the picture in pixels; joints outside the picture are guesses and are ignored.
        width: Width of the picture in pixels.

    Returns:
        The motion float32 [2], and what the second number was measured on: "joints", or "head" if the shoulders are not visible (face
        crops), in which case head pose stands in for the body, as in the embedded model.
    """
    bridged = bridge_gaps(points, scores)
    moved = body_motion(track, height, width)
    value = head_motion(bridged) if moved is None else moved
    return np.array([face_motion(bridged), value], np.float32), "head" if moved is None else "joints"


def face_motion(points: Array) -> float:
    """Variance of the positions of a mesh [F, 468, 3] without head pose, averaged over points; unit: squared distance of the eyes."""
    aligned = rigid_align(points, LipSync.bundled().template)[0]
    return float(smooth(aligned, _SMOOTHING).astype(np.float64).var(0).sum(-1).mean())


def head_motion(points: Array) -> float:
    """Variance of the head's rigid points on the screen, moved by pose alone; unit: squared width of the shoulders (`SHOULDERS`)."""
    template = LipSync.bundled().template
    _, scale, rotation, translation = rigid_align(points, template)
    rigid = np.repeat(template[None, list(RIGID_POINTS)], len(points), 0)
    shown = smooth(rigid_restore(rigid, scale, rotation, translation)[..., :2], _SMOOTHING)
    # scale converts pixels to distances of the eyes
    unit = SHOULDERS / float(np.median(scale))
    return float((shown.astype(np.float64) / unit).var(0).sum(-1).mean())


def body_motion(track: BodyTrack, height: int, width: int) -> float | None:
    """Variance of the positions of visible joints; unit: squared width of the shoulders. None if the shoulders are not visible.

    Args:
        track: Joints in pixels.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
    """
    x, y, visibility = np.moveaxis(track.joints.astype(np.float64), -1, 0)
    seen = (visibility >= _VISIBLE) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    often = seen.mean(0) >= _OFTEN
    if not all(often[joint] for joint in track.shoulders):
        return None
    places = np.stack([x, y], -1)
    left, right = (places[:, joint] for joint in track.shoulders)
    unit = max(1.0, float(np.median(np.linalg.norm(left - right, axis=-1))))
    used = [joint for joint in track.upper if often[joint]]
    return float((places[:, used] / unit).var(0).sum(-1).mean())


def find_joints(frames: NDArray[np.uint8], fps: float, settings: PreparationSettings) -> BodyTrack:
    """Find the joints of the body in every n-th frame, and interpolate between them.

    Args:
        frames: Frames uint8 [F, H, W, 3].
        fps: Frames per second.
        settings: Uses `body` and `body_every`.

    Raises:
        MissingDependencyError: DWPose is requested and rtmlib is not installed.
    """
    find, shoulders, upper = _bundled() if settings.body == "bundled" else _dwpose()
    every = max(1, round(settings.body_every * fps))
    searched = sorted({*range(0, len(frames), every), len(frames) - 1})
    found = np.stack([find(frames[i]) for i in searched]).astype(np.float32)
    times = np.arange(len(frames))
    flat = found.reshape(len(searched), -1)
    joints = np.stack([np.interp(times, searched, column) for column in flat.T], -1).astype(np.float32)
    return BodyTrack(joints.reshape(len(frames), -1, 3), shoulders, upper)


Finder = tuple[Callable[[NDArray[np.uint8]], Array], tuple[int, int], tuple[int, ...]]


def _bundled() -> Finder:
    def find(frame: NDArray[np.uint8]) -> Array:
        return np.asarray(body.body_joints(frame)[:, [0, 1, 3]], np.float32)

    arms = (body.LEFT_ELBOW, body.RIGHT_ELBOW, body.LEFT_WRIST, body.RIGHT_WRIST)
    shoulders = (body.LEFT_SHOULDER, body.RIGHT_SHOULDER)
    return find, shoulders, (body.NOSE, *shoulders, *arms, body.LEFT_HIP, body.RIGHT_HIP)


def _dwpose() -> Finder:
    network = _dwpose_network()

    def find(frame: NDArray[np.uint8]) -> Array:
        # takes BGR, returns 133 points per person, the first 17 of which are the body in the order of COCO
        points, scores = network(np.ascontiguousarray(frame[..., ::-1]))
        if len(points) == 0:
            return np.zeros((17, 3), np.float32)
        best = int(np.argmax(np.asarray(scores)[:, :17].mean(1)))
        seen = np.clip(np.asarray(scores)[best, :17, None], 0, 1)
        return np.concatenate([np.asarray(points)[best, :17, :2], seen], 1).astype(np.float32)

    return find, (5, 6), (0, 5, 6, 7, 8, 9, 10, 11, 12)


@functools.cache
def _dwpose_network() -> Any:
    try:
        from rtmlib import Wholebody
    except ImportError as error:
        raise MissingDependencyError(
            f"DWPose needs the package rtmlib, which cannot be imported ({error}); install fantasytalking[perception], or use the "
            "bundled pose network (--body bundled)."
        ) from error
    return Wholebody(mode="balanced", backend="onnxruntime", device="cpu")
