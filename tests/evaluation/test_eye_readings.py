"""Two readings of the eyes become one, whatever one of them does not see."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.evaluation.eye_readings import average_readings, read_eyes, track_mirrored, track_settled
from fantasytalking.evaluation.footage import Footage
from fantasytalking.perception.face_measures import eye_opening
from fantasytalking.perception.landmarks import face_mesh, track_mesh
from tests.perception.pictures import portrait

Points = NDArray[np.float32]


@pytest.fixture(scope="module")
def face() -> Points:
    return face_mesh(portrait()).points


def still(face: Points, height: float = 1.0) -> tuple[Points, NDArray[np.float32]]:
    """Ten meshes [10, 468, 3] of a face scaled in height, which opens or closes its eyes, all seen."""
    points = np.repeat(face[None], 10, axis=0)
    points[..., 1] = face[:, 1].mean() + height * (points[..., 1] - face[:, 1].mean())
    return points, np.ones(10, np.float32)


def test_where_one_reading_loses_the_face_the_other_counts_and_nothing_jumps(face: Points) -> None:
    direct, mirrored = still(face), still(face, 0.6)
    both = average_readings(direct, mirrored)[0]
    np.testing.assert_allclose(both, both[:1].repeat(10, axis=0))
    mean = (eye_opening(direct[0][0]) + eye_opening(mirrored[0][0])[::-1]) / 2
    np.testing.assert_allclose(both[0], mean, rtol=1e-5)
    direct[1][2:4], mirrored[1][5:7] = 0, 0
    direct[0][2:4], mirrored[0][5:7] = still(face, 0.3)[0][:2], still(face, 0.3)[0][:2]  # not to be used
    openings, scores = average_readings(direct, mirrored)
    np.testing.assert_allclose(openings, both, rtol=1e-5)
    assert (scores == 1).all()
    direct[1][8], mirrored[1][8] = 0, 0
    assert average_readings(direct, mirrored)[1].tolist() == [1] * 8 + [0, 1]


def test_where_the_readings_see_two_people_the_frames_themselves_count(face: Points) -> None:
    direct, mirrored = still(face), still(face, 0.6)
    mirrored[0][4] = mirrored[0][4] * (1, 0.3, 1) + (150, 0, 0)
    openings = average_readings(direct, mirrored)[0]
    np.testing.assert_allclose(openings, openings[:1].repeat(10, axis=0))
    mirrored[0][:, :, 0] += 150
    np.testing.assert_array_equal(average_readings(direct, mirrored)[0], eye_opening(direct[0]))
    np.testing.assert_array_equal(average_readings(direct, None)[0], eye_opening(direct[0]))


def test_the_mirror_image_is_tracked_in_the_places_of_the_frames(calm: Footage) -> None:
    mirrored = track_mirrored(calm.frames[:3])
    assert mirrored is not None
    points, scores = mirrored
    direct = track_settled(calm.frames[:3])[0]
    assert points.shape == (3, 468, 3) and (scores > 0.5).all()
    assert np.abs((points - direct)[..., :2].mean(axis=1)).max() < 2
    assert points[0, 33, 0] > points[0, 263, 0], "the outer corner of the right eye lies where the left one's is"
    assert track_mirrored(np.full((2, 64, 64, 3), 128, np.uint8)) is None


def test_the_first_mesh_does_not_jump(calm: Footage) -> None:
    frames = np.repeat(calm.frames[:1], 3, axis=0)
    settled, jumping = (
        np.abs(np.diff(track(frames)[0], axis=0)).max(axis=(1, 2)) for track in (track_settled, track_mesh)
    )
    assert settled[0] < 0.2 < jumping[0]


def test_frames_are_a_stream_of_which_few_are_held(calm: Footage) -> None:
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0

    def stream() -> Iterator[NDArray[np.uint8]]:
        nonlocal most
        for frame in calm.frames[:20]:
            one = frame.copy()
            alive.append(weakref.ref(one))
            most = max(most, sum(known() is not None for known in alive))
            yield one
            del one

    openings, _ = read_eyes(track_settled(stream()), stream())
    assert most <= 4
    np.testing.assert_allclose(openings, read_eyes(track_settled(calm.frames[:20]), calm.frames[:20])[0])
