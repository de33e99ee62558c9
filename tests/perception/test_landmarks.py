"""The face mesh: followed through video, measured, aligned; its constants."""

import numpy as np
import pytest

from fantasytalking.errors import FaceError, ImageError, SettingsError
from fantasytalking.perception.alignment import fit_similarity
from fantasytalking.perception.landmarks import (
    FACE_OVAL,
    LEFT_EYE,
    LIPS_INNER,
    LIPS_OUTER,
    RIGHT_EYE,
    TRIANGLES,
    face_mesh,
    lip_mask,
    mouth_opening,
    rigid_align,
    rigid_restore,
    track_mesh,
)
from fantasytalking.perception.mesh_points import INNER_LIP_PAIRS, NUM_SKIN_TRIANGLES
from tests.perception.pictures import moved, movement, portrait

BLACK = np.zeros((240, 320, 3), np.uint8)


def swaying(count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A portrait that moves, nods and comes closer, and the affine matrix of each frame."""
    image, frames, matrices = portrait(), [], []
    for t in np.linspace(0, 1, count):
        scale, centre, degrees = 1 + 0.3 * t, (130 + 60 * t, 125 + 10 * np.sin(6 * t)), 15 * np.sin(5 * t)
        frames.append(moved(image, scale, centre, degrees, (320, 240)))
        matrices.append(movement(scale, centre, degrees))
    return np.stack(frames), matrices


def rotations(count: int) -> np.ndarray:
    matrices = np.linalg.qr(np.random.default_rng(1).normal(size=(count, 3, 3)))[0]
    return matrices * np.linalg.det(matrices)[:, None, None]


def test_the_triangles_are_a_closed_disc_of_all_points_with_one_orientation() -> None:
    assert TRIANGLES.shape == (898, 3)
    directed = [(t[i], t[(i + 1) % 3]) for t in TRIANGLES.tolist() for i in range(3)]
    assert len(set(directed)) == len(directed), "an edge is used twice in one direction"
    edges = {tuple(sorted(edge)) for edge in directed}
    assert len(np.unique(TRIANGLES)) == 468
    assert 468 - len(edges) + len(TRIANGLES) == 1
    border = {a for a, b in directed if (b, a) not in set(directed)}
    assert border == set(FACE_OVAL)


def test_without_their_fillings_eyes_and_mouth_are_holes() -> None:
    skin = TRIANGLES[:NUM_SKIN_TRIANGLES].tolist()
    directed = {(t[i], t[(i + 1) % 3]) for t in skin for i in range(3)}
    border = {a for a, b in directed if (b, a) not in directed}
    assert border == set(FACE_OVAL) | set(LIPS_INNER) | set(LEFT_EYE) | set(RIGHT_EYE)


def test_outlines_run_clockwise_without_crossing() -> None:
    points = face_mesh(portrait()).points
    for outline in (LIPS_OUTER, LIPS_INNER, LEFT_EYE, RIGHT_EYE, FACE_OVAL):
        assert len(set(outline)) == len(outline)
        x, y = points[list(outline), :2].T
        assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0


def test_the_mesh_follows_a_moving_face() -> None:
    frames, matrices = swaying(12)
    points, scores = track_mesh(frames)
    assert points.shape == (12, 468, 3) and points.dtype == np.float32
    assert scores.shape == (12,) and scores.min() > 0.9
    still = face_mesh(portrait()).points[:, :2]
    for mesh, matrix in zip(points, matrices, strict=True):
        expected = still @ matrix[:, :2].T + matrix[:, 2]
        assert np.median(np.linalg.norm(mesh[:, :2] - expected, axis=1)) < 2


def test_an_iterator_of_frames_gives_the_same_as_an_array() -> None:
    frames, _ = swaying(4)
    for one, other in zip(track_mesh(frames), track_mesh(iter(frames)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_without_a_face_score_0_and_repeat_the_nearest_earlier_mesh() -> None:
    frames, _ = swaying(3)
    points, scores = track_mesh([BLACK, frames[0], BLACK, BLACK, frames[2]])
    assert (scores > 0.5).tolist() == [False, True, False, False, True]
    assert scores[[0, 2, 3]].tolist() == [0, 0, 0]
    for index in (0, 2, 3):
        np.testing.assert_array_equal(points[index], points[1])


def test_a_face_is_found_again_after_a_cut() -> None:
    image = portrait()
    left = moved(image, 0.8, (80, 120), 0, (320, 240))
    right = moved(image, 0.8, (240, 120), 0, (320, 240))
    points, scores = track_mesh([left, left, right, right])
    assert scores.min() > 0.5
    assert abs(points[3, :, 0].mean() - 240) < 12


def test_a_video_without_a_face_is_refused() -> None:
    with pytest.raises(FaceError, match="None of the 3 frames shows a face"):
        track_mesh([BLACK] * 3)
    with pytest.raises(FaceError, match="None of the 0 frames"):
        track_mesh([])
    with pytest.raises(FaceError, match="No face was found in the 320 x 240 image"):
        face_mesh(BLACK)
    with pytest.raises(ImageError, match="uint8"):
        track_mesh(np.zeros((2, 8, 8, 3), np.float32))


def test_meshes_are_aligned_exactly_whatever_their_pose_and_size() -> None:
    template = face_mesh(portrait()).points
    turns, sizes = rotations(5), np.linspace(0.3, 3, 5)
    shift = np.random.default_rng(2).normal(0, 100, (5, 1, 3))
    posed = (sizes[:, None, None] * (template @ turns.transpose(0, 2, 1)) + shift).astype(np.float32)
    aligned, scale, rotation, translation = rigid_align(posed, template)
    assert np.abs(aligned - template).max() < 0.01
    np.testing.assert_allclose(scale, 1 / sizes, rtol=1e-4)
    np.testing.assert_allclose(rotation, turns.transpose(0, 2, 1), atol=1e-4)
    assert np.abs(rigid_restore(aligned, scale, rotation, translation) - posed).max() < 0.02


def test_an_open_mouth_does_not_move_the_rest_of_an_aligned_face() -> None:
    template = face_mesh(portrait()).points
    speaking = template.copy()
    lower = [14, 17, 84, 87, 152, 175, 199, 200, 314, 317, 377, 148]
    speaking[lower, 1] += 12
    aligned = rigid_align(speaking[None], template)[0][0]
    rest = np.setdiff1d(np.arange(468), lower)
    assert np.abs(aligned[rest] - template[rest]).max() < 1e-2
    assert np.abs(aligned[lower, 1] - template[lower, 1] - 12).max() < 1e-2


def test_points_are_never_mirrored_onto_a_template() -> None:
    template = face_mesh(portrait()).points
    _, _, rotation, _ = rigid_align((template * (-1, 1, 1))[None], template)
    assert np.linalg.det(rotation[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("weights", [np.zeros(468), -np.ones(468), np.ones(4)])
def test_weights_that_align_nothing_are_refused(weights: np.ndarray) -> None:
    template = face_mesh(portrait()).points
    with pytest.raises(SettingsError, match="Weights need shape"):
        fit_similarity(template, template, weights)
    with pytest.raises(SettingsError, match="Meshes need shape"):
        rigid_align(template, template)


def test_mouth_opening_grows_with_the_gap_and_ignores_pose_and_size() -> None:
    points = np.repeat(face_mesh(portrait()).points[None], 5, axis=0)
    for step in range(5):
        points[step, [pair[1] for pair in INNER_LIP_PAIRS], 1] += 4 * step
    opening = mouth_opening(points)
    assert opening.shape == (5,) and (np.diff(opening) > 0).all() and opening[0] > 0
    posed = 2.5 * points @ rotations(1)[0].T + 40
    np.testing.assert_allclose(mouth_opening(posed), opening, rtol=1e-4)
    assert mouth_opening(points[0, :, :2]).shape == ()


def test_a_closed_mouth_opens_by_0() -> None:
    points = face_mesh(portrait()).points
    for upper, lower in INNER_LIP_PAIRS:
        points[lower] = points[upper]
    assert mouth_opening(points) == 0


def test_the_lip_mask_covers_the_mouth_and_grows_when_dilated() -> None:
    image = portrait()
    points = face_mesh(image).points
    areas = []
    for dilate in (0.0, 0.1, 0.3):
        mask = lip_mask(points, 512, 512, dilate)
        assert mask.shape == (512, 512) and mask.dtype == bool
        x, y = points[[13, 14], :2].mean(axis=0).round().astype(int)
        assert mask[y, x]
        x, y = points[10, :2].round().astype(int)
        assert not mask[y, x]
        areas.append(int(mask.sum()))
    width = np.linalg.norm(points[61, :2] - points[291, :2])
    assert 0.15 * width**2 < areas[0] < 0.6 * width**2
    assert areas[0] < areas[1] < areas[2]


def test_a_mouth_outside_the_frame_gives_an_empty_mask_and_a_tiny_frame_a_small_one() -> None:
    points = face_mesh(portrait()).points
    assert not lip_mask(points + 1e6, 64, 64, 0.2).any()
    assert 1 <= lip_mask(points / 16, 32, 32).sum() <= 12
    with pytest.raises(SettingsError, match="at least 1"):
        lip_mask(points, 0, 32)
