"""Motion that a photo can show, and how it is measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import FaceField
from fantasytalking.autoencoder.soundness import limit_motion, unsound_share
from fantasytalking.perception.landmarks import mouth_opening
from tests.autoencoder.moved_faces import blink, close_mouth, turned
from tests.training.synthetic import open_mouth, own_mesh

Array = NDArray[np.float32]
SIZE = (480, 480)


def face(yaw: float = 0.0) -> Array:
    """The example portrait's mesh in a picture of `SIZE`, turned by an angle in radians."""
    return 2.5 * turned(own_mesh(), yaw)


def lively(mesh: Array, yaw: float, frames: int = 24) -> Array:
    """A head that turns by up to 0.3 radians to both sides, speaks and blinks, for a portrait turned by `yaw` already."""
    time = np.arange(frames) / frames
    moved = []
    for t in time:
        opening = np.array([0.05 * (1 - np.cos(20 * t))], np.float32)
        spoken = open_mouth(own_mesh(), opening)[0]
        moved.append(2.5 * turned(spoken, yaw + 0.3 * float(np.sin(2 * np.pi * t)), 0.1 * float(np.cos(9 * t))))
    moved[5], moved[6] = blink(moved[5]), blink(moved[6])
    moved[12] = close_mouth(moved[12])
    return np.stack(moved).astype(np.float32)


@pytest.mark.parametrize("degrees", [-45, -35, -20, 0, 20, 35, 45])
def test_no_face_pixel_is_folded_over_or_stretched_fourfold_however_far_the_head_is_turned(degrees: int) -> None:
    yaw = float(np.radians(degrees))
    mesh = face(yaw)
    shares = unsound_share(SIZE, mesh, lively(mesh, yaw))
    assert shares.shape == (24,)
    assert shares.max() == 0


def test_the_measure_finds_what_is_stretched_and_what_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = face()
    wide, folded = mesh.copy(), mesh.copy()
    wide[..., :2] = mesh[..., :2].mean(0) + 5 * (mesh[..., :2] - mesh[..., :2].mean(0))
    folded[..., 0] = 2 * mesh[:, 0].mean() - mesh[:, 0]
    module = "fantasytalking.autoencoder.soundness.limit_motion"
    monkeypatch.setattr(module, lambda field, moved: moved)
    shares = unsound_share(SIZE, mesh, np.stack([mesh, wide, folded]))
    assert shares[0] == 0
    assert shares[1] > 0.5
    assert shares[2] > 0.2


def test_ordinary_motion_of_a_frontal_face_is_left_alone() -> None:
    mesh = face()
    moved = np.stack([2.5 * turned(own_mesh(), yaw, 0.05, 0.05) for yaw in np.linspace(-0.15, 0.15, 9)])
    moved = moved.astype(np.float32)
    assert np.array_equal(limit_motion(FaceField(mesh, *SIZE), moved), moved)


@pytest.mark.parametrize("degrees", [-30, 0, 30])
def test_speech_is_not_held_back_along_with_a_turn(degrees: int) -> None:
    yaw = float(np.radians(degrees))
    mesh = face(yaw)
    moved = lively(mesh, yaw)
    held = limit_motion(FaceField(mesh, *SIZE), moved)
    assert mouth_opening(held).std() > 0.9 * mouth_opening(moved).std()


def test_motion_is_held_back_softly() -> None:
    """A head that suddenly turns too far is held back before it does."""
    mesh = face(0.6)
    yaws = np.where(np.arange(40) == 20, 1.7, 0.62)
    moved = np.stack([face(float(yaw)) for yaw in yaws])
    held = limit_motion(FaceField(mesh, *SIZE), moved)
    assert np.abs(held[20] - moved[20]).max() > 20
    # away from the jump, where the share of the motion that is kept is all that changes, it changes slowly
    kept = np.linalg.norm(held - mesh, axis=(1, 2)) / np.linalg.norm(moved - mesh, axis=(1, 2))
    assert np.abs(np.diff(np.delete(kept, 20))).max() < 0.25
    assert kept[0] == 1


def test_no_frames_are_no_trouble() -> None:
    assert limit_motion(FaceField(face(), *SIZE), np.zeros((0, 468, 3), np.float32)).shape == (0, 468, 3)


def test_lips_that_close_leave_next_to_no_wrong_pixel_along_their_edge() -> None:
    """Before: six times as many, where the edge lies between two places of the raster."""
    mesh = open_mouth(own_mesh() * 2.5, np.array([0.06], np.float32))[0]
    random = np.random.default_rng(0)
    closed = [turned(close_mouth(mesh), *random.uniform(-0.2, 0.2, 2)) for _ in range(16)]
    assert unsound_share(SIZE, mesh, np.stack(closed)).mean() < 1e-4
