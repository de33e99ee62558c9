"""Openings of both eyes of a video, each frame read twice: as it is, and as its mirror image.

The mesh network's error in an eye depends on the side that the eye is on; where eyes are narrow, it is as large as a blink. The mean of
both readings is the same, with left and right exchanged, for a mirrored video. Rotated or scaled frames read no better.

Letters: F frames, H height, W width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import FaceError
from fantasytalking.perception.face_measures import eye_distance, eye_opening
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.perception.mesh_network import MIN_SCORE

__all__ = ["average_readings", "read_eyes", "track_mirrored", "track_settled"]

Tracked = tuple[NDArray[np.floating], NDArray[np.floating]]
_WARM_UP = 4
_SAME_FACE = 0.5
"""Largest distance between the meshes of one face in a frame and in its mirror image, in distances of the outer corners of the eyes."""


def track_settled(frames: Iterable[NDArray[np.uint8]]) -> Tracked:
    """Track a face as `track_mesh` does, without the jump between the first frame and the second one.

    The first mesh comes from a detection, later ones from the mesh before: some rounds are needed to settle.
    """
    every = iter(frames)
    settling = (frame for first in itertools.islice(every, 1) for frame in (*[first] * _WARM_UP, first))
    points, scores = track_mesh(itertools.chain(settling, every))
    return points[_WARM_UP:], scores[_WARM_UP:]


def read_eyes(
    tracked: Tracked, frames: Iterable[NDArray[np.uint8]]
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Read the eyes of a video twice, see `average_readings`; its mirror image is tracked here, a frame at a time.

    Args:
        tracked: Meshes and scores that `track_settled` found in the frames.
        frames: The same frames once more, RGB uint8 [F, H, W, 3], or an iterable of [H, W, 3].
    """
    return average_readings(tracked, track_mirrored(frames))


def track_mirrored(frames: Iterable[NDArray[np.uint8]]) -> Tracked | None:
    """Track a face in the mirror images of frames, as `track_settled` does.

    Args:
        frames: RGB frames uint8 [F, H, W, 3], or an iterable of [H, W, 3].

    Returns:
        Meshes [F, 468, 3] in pixels of the frames themselves, not of the mirror images, in which the network's left points lie on what is
        the person's right side; and scores [F]. None if no mirror image shows a face.
    """
    widths: list[int] = []

    def mirrored() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            widths.append(frame.shape[1])
            yield np.ascontiguousarray(frame[:, ::-1])

    try:
        points, scores = track_settled(mirrored())
    except FaceError:
        return None
    points[..., 0] = np.array(widths, np.float32)[:, None] - 1 - points[..., 0]
    return points, scores


def average_readings(direct: Tracked, mirrored: Tracked | None) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Average the openings of the eyes that are read in frames and in their mirror images.

    The readings are brought to a common median first, so that both count alike, and so that nothing jumps where only one of them sees the
    face. Where they see two different faces, as may happen in a picture of several, the frames themselves count.

    Args:
        direct: Meshes [F, 468, 3] and scores [F] of the frames.
        mirrored: Those of the mirror images, as `track_mirrored` gives them.

    Returns:
        Openings [F, 2] of the person's right eye and left eye, in the unit of `eye_opening`, and scores [F], the higher one of both
        readings. Below a score of 0.5 neither shows the face, and the opening is that of frames before.
    """
    points, scores = direct
    own = np.asarray(eye_opening(points), np.float64)
    if mirrored is None:
        return own, scores
    other = np.asarray(eye_opening(mirrored[0]), np.float64)[:, ::-1]
    seen, seen_mirrored = scores >= MIN_SCORE, mirrored[1] >= MIN_SCORE
    two = seen & seen_mirrored
    both = two & _are_near(points, mirrored[0])
    if both.sum() <= two.sum() / 2:  # never together, or on another face
        return own, scores
    medians = [np.maximum(np.median(reading[both], axis=0), 1e-6) for reading in (own, other)]
    common = (medians[0] + medians[1]) / 2
    own, other = own / medians[0] * common, other / medians[1] * common
    openings = (own + other) / 2
    openings[seen & ~both] = own[seen & ~both]
    openings[seen_mirrored & ~seen] = other[seen_mirrored & ~seen]
    return openings, np.maximum(scores, mirrored[1])


def _are_near(points: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether meshes [F, 468, 3] and [F, 468, 3] lie on the same face, bool [F]."""
    between = np.linalg.norm((points - others)[..., :2].mean(axis=1), axis=-1)
    return np.asarray(between <= _SAME_FACE * eye_distance(points))
