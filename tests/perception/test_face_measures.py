"""Measures of a face mesh on meshes whose lips, lids and angles are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fantasytalking.errors import SettingsError
from fantasytalking.perception.face_measures import eye_opening, head_angles, lip_opening
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.perception.mesh_points import (
    INNER_LIP_PAIRS,
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LEFT_LID_PAIRS,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
    RIGHT_LID_PAIRS,
)
from tests.perception.pictures import portrait


@pytest.fixture(scope="module")
def mesh() -> np.ndarray:
    return face_mesh(portrait()).points.astype(np.float64)


def test_the_lips_open_by_their_gap_over_the_distance_of_the_outer_corners_of_the_eyes(mesh: np.ndarray) -> None:
    eyes = np.linalg.norm(mesh[RIGHT_EYE_OUTER] - mesh[LEFT_EYE_OUTER])
    points = np.repeat(mesh[None], 4, axis=0)
    for frame, gap in enumerate((0.0, 0.04, 0.1, 0.2)):
        for upper, lower in INNER_LIP_PAIRS:
            points[frame, lower] = points[frame, upper] + (0, gap * eyes, 0)
    np.testing.assert_allclose(lip_opening(points), (0, 0.04, 0.1, 0.2), atol=1e-6)
    turned = 1.7 * points @ Rotation.from_euler("YXZ", (30, -10, 15), degrees=True).as_matrix().T + 25
    np.testing.assert_allclose(lip_opening(turned), (0, 0.04, 0.1, 0.2), atol=1e-6)
    assert lip_opening(points[0, :, :2]).shape == ()


def test_each_eye_opens_by_the_gap_of_its_own_lids_over_its_width(mesh: np.ndarray) -> None:
    points = mesh.copy()
    for pairs, (outer, inner), opening in (
        (RIGHT_LID_PAIRS, (RIGHT_EYE_OUTER, RIGHT_EYE_INNER), 0.3),
        (LEFT_LID_PAIRS, (LEFT_EYE_OUTER, LEFT_EYE_INNER), 0.1),
    ):
        width = np.linalg.norm(points[outer] - points[inner])
        for upper, lower in pairs:
            points[lower] = points[upper] + (0, opening * width, 0)
    np.testing.assert_allclose(eye_opening(points), (0.3, 0.1), atol=1e-6)


@pytest.mark.parametrize("angles", [(30, 0, 0), (-45, 0, 0), (0, 20, 0), (0, -15, 0), (0, 0, 40), (25, -12, 33)])
def test_a_head_that_is_turned_by_known_angles_is_measured_as_that(
    mesh: np.ndarray, angles: tuple[float, float, float]
) -> None:
    # made frontal first, by the angles that it is said to have
    frontal = mesh @ _rotation(*head_angles(mesh))
    np.testing.assert_allclose(head_angles(frontal), 0, atol=1e-6)
    np.testing.assert_allclose(head_angles(3 * frontal @ _rotation(*angles).T - 70), angles, atol=1e-6)


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation in a picture with y down: a nose that goes right turns against the hand of its y axis, one that goes up with that of x."""
    return Rotation.from_euler("YXZ", (-yaw, -pitch, roll), degrees=True).as_matrix()


def test_the_directions_of_the_angles_are_those_of_the_picture(mesh: np.ndarray) -> None:
    frontal = mesh @ _rotation(*head_angles(mesh))
    nose, middle = 4, [234, 454]
    right, up, clockwise = (frontal @ _rotation(*angles).T for angles in ((20, 0, 0), (0, 20, 0), (0, 0, 20)))
    assert (right[nose] - right[middle].mean(0))[0] > (frontal[nose] - frontal[middle].mean(0))[0] + 5
    assert (up[nose] - up[middle].mean(0))[1] < (frontal[nose] - frontal[middle].mean(0))[1] - 5
    assert clockwise[LEFT_EYE_OUTER][1] > clockwise[RIGHT_EYE_OUTER][1] + 5


def test_a_real_head_seen_from_the_front_has_small_angles(mesh: np.ndarray) -> None:
    sequence = head_angles(np.stack([mesh, mesh]))
    assert sequence.shape == (2, 3)
    assert np.abs(sequence[0, :2]).max() < 20


def test_angles_need_meshes_in_space(mesh: np.ndarray) -> None:
    with pytest.raises(SettingsError, match=r"need meshes \[..., 468, 3\], not \(468, 2\)"):
        head_angles(mesh[:, :2])
