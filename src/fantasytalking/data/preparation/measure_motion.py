"""Raw motion of a clip, face and body, before the set's percentiles turn it into w_face and w_body (paper, section 3.3).

The paper takes the variance over time of facial landmarks and of body joints. Here the landmarks are first normalised for translation,
size and head pose, so that w_face measures expression, and the joints for the shoulders' width, so that w_body does not depend on how
large a person is seen.
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
"""Width of the shoulders in distances between the eyes, about: brings head motion to the scale of body motion."""
_SMOOTHING = 0.7  # frames; the jitter of the mesh network goes, syllables stay
_VISIBLE = 0.5
_OFTEN = 0.8


@dataclass(frozen=True)
class BodyTrack:
    """Joints of a clip.

    Attributes:
        joints: [F, J, 3] x, y in pixels and visibility 0..1; between the frames searched they are interpolated.
        shoulders: numbers of the two shoulders.
        upper: numbers of the joints that body motion is measured on.
    """

    joints: Array
    shoulders: tuple[int, int]
    upper: tuple[int, ...]


def raw_motion(points: Array, scores: Array, track: BodyTrack, height: int, width: int) -> tuple[Array, str]:
    """Raw motion [2] float32 of face and body, and what the latter was measured on.

    Args:
        points: [F, 468, 3] mesh in pixels.
        scores: [F].
        track: joints in the same pixels.
        height, width: of the picture; joints outside it are guesses and do not count.

    Returns:
        The motion, and "joints", or "head" where the shoulders are not seen (face crops): then the head's pose stands for the body, as it
        does for the embedded model.
    """
    bridged = bridge_gaps(points, scores)
    moved = body_motion(track, height, width)
    value = head_motion(bridged) if moved is None else moved
    return np.array([face_motion(bridged), value], np.float32), "head" if moved is None else "joints"


def face_motion(points: Array) -> float:
    """Mean over the points of a mesh [F, 468, 3] of the variance of their position, pose taken out, in distances of the eyes, squared."""
    aligned = rigid_align(points, LipSync.bundled().template)[0]
    return float(smooth(aligned, _SMOOTHING).astype(np.float64).var(0).sum(-1).mean())


def head_motion(points: Array) -> float:
    """The same of the head's rigid points, moved by pose alone, on the screen, in widths of the shoulders (`SHOULDERS`), squared."""
    template = LipSync.bundled().template
    _, scale, rotation, translation = rigid_align(points, template)
    rigid = np.repeat(template[None, list(RIGID_POINTS)], len(points), 0)
    shown = smooth(rigid_restore(rigid, scale, rotation, translation)[..., :2], _SMOOTHING)
    # scale brings pixels to distances of the eyes
    unit = SHOULDERS / float(np.median(scale))
    return float((shown.astype(np.float64) / unit).var(0).sum(-1).mean())


def body_motion(track: BodyTrack, height: int, width: int) -> float | None:
    """Mean over the joints seen of the variance of their place, in widths of the shoulders, squared; None without shoulders."""
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
    """Search the body's joints in every n-th frame.

    Args:
        frames: uint8 [F, H, W, 3].
        fps: frames a second.
        settings: uses `body` and `body_every`.

    Raises:
        MissingDependencyError: DWPose is asked for and rtmlib is not installed.
    """
    find, shoulders, upper = _bundled() if settings.body == "bundled" else _dwpose()
    every = max(1, round(settings.body_every * fps))
    looked = sorted({*range(0, len(frames), every), len(frames) - 1})
    found = np.stack([find(frames[i]) for i in looked]).astype(np.float32)
    times = np.arange(len(frames))
    flat = found.reshape(len(looked), -1)
    joints = np.stack([np.interp(times, looked, column) for column in flat.T], -1).astype(np.float32)
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
        # it takes BGR and gives every person's 133 points, the first 17 of which are the body's in COCO's order
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
