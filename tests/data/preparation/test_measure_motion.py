"""Raw motion: expression, head and body kept apart, and independent of size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.data.preparation.measure_motion import (
    BodyTrack,
    body_motion,
    face_motion,
    find_joints,
    head_motion,
    raw_motion,
)
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import MissingDependencyError
from tests.data.preparation.footage import load
from tests.training.synthetic import open_mouth, own_mesh, smooth_noise, turn_head

RNG = np.random.default_rng(3)
FRAMES = 100
STILL = np.repeat(own_mesh()[None], FRAMES, 0)
SPEAKING = open_mouth(own_mesh(), 0.04 * (1 + np.tanh(smooth_noise(FRAMES, RNG))))
VECTORS = 0.1 * np.stack([smooth_noise(FRAMES, RNG, 8) for _ in range(3)], 1)
SHIFTS = 4 * np.stack([smooth_noise(FRAMES, RNG, 8) for _ in range(2)], 1)
SWAYING = turn_head(STILL, VECTORS, SHIFTS, np.ones(FRAMES, np.float32))
SCORES = np.ones(FRAMES, np.float32)


def test_expression_is_measured_without_the_pose() -> None:
    spoken = face_motion(SPEAKING)
    assert face_motion(STILL) < 1e-9
    assert face_motion(SWAYING) < 0.02 * spoken
    both = turn_head(SPEAKING, VECTORS, SHIFTS, np.ones(FRAMES, np.float32))
    assert face_motion(both) == pytest.approx(spoken, rel=0.05)
    assert face_motion(2 * SPEAKING + 50) == pytest.approx(spoken, rel=0.01)


def test_head_motion_is_measured_without_the_mouth() -> None:
    swayed = head_motion(SWAYING)
    assert head_motion(STILL) < 1e-9
    assert head_motion(SPEAKING) < 0.05 * swayed
    assert head_motion(3 * SWAYING) == pytest.approx(swayed, rel=0.01)


def person(sway: float, size: float = 1.0, visible: float = 1.0) -> BodyTrack:
    """Nose, shoulders and wrists; everything sways by a share of the shoulders' width."""
    rest = np.array([[100, 40], [60, 100], [140, 100], [50, 180], [150, 180]], float)
    moved = rest + sway * 80 * np.sin(np.linspace(0, 20, FRAMES))[:, None, None] * np.array([1.0, 0.0])
    seen = np.full((FRAMES, 5, 1), visible)
    return BodyTrack(np.concatenate([size * moved, seen], -1).astype(np.float32), (1, 2), (0, 1, 2, 3, 4))


def test_body_motion_is_in_widths_of_the_shoulders() -> None:
    value = body_motion(person(0.1), 200, 200)
    assert value == pytest.approx(0.01 / 2, rel=0.05)  # half of the squared amplitude
    assert body_motion(person(0.1, 3.0), 600, 600) == pytest.approx(value, rel=1e-3)
    assert body_motion(person(0.0), 200, 200) == pytest.approx(0, abs=1e-9)


def test_joints_that_are_not_seen_do_not_count() -> None:
    assert body_motion(person(0.1, visible=0.3), 200, 200) is None
    assert body_motion(person(0.1), 90, 200) is None  # the shoulders lie below the picture
    # with the wrists outside, nose and shoulders remain
    assert body_motion(person(0.1), 150, 200) == pytest.approx(0.005, rel=0.05)


def test_the_head_stands_for_a_body_that_is_not_seen() -> None:
    motion, source = raw_motion(SWAYING, SCORES, person(0.1, visible=0.0), 200, 200)
    assert source == "head"
    assert motion == pytest.approx([face_motion(SWAYING), head_motion(SWAYING)], rel=1e-4)
    motion, source = raw_motion(SWAYING, SCORES, person(0.1), 200, 200)
    assert source == "joints"
    assert motion[1] == pytest.approx(0.005, rel=0.05)


def test_frames_without_a_face_do_not_add_motion() -> None:
    lost, scores = SWAYING.copy(), SCORES.copy()
    lost[40:43] += 200
    scores[40:43] = 0
    unseen = person(0.0, visible=0.0)
    (face, head), _ = raw_motion(lost, scores, unseen, 200, 200)
    assert face < 1e-6
    assert head == pytest.approx(head_motion(SWAYING), rel=0.05)
    assert head_motion(lost) > 5 * head


def test_joints_between_looks_are_interpolated(talking: Path) -> None:
    frames, _ = load(talking / "lively.mp4")
    track = find_joints(frames[:11], 25, PreparationSettings(body_every=0.2))
    assert track.joints.shape == (11, 33, 3)
    assert track.joints[2] == pytest.approx(track.joints[0] + 0.4 * (track.joints[5] - track.joints[0]), abs=0.01)
    assert track.joints[:, list(track.shoulders), 2].min() > 0.5


def test_dwpose_without_its_package_is_one_sentence() -> None:
    try:
        import rtmlib  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"rtmlib.*--body bundled"):
            find_joints(np.zeros((2, 64, 64, 3), np.uint8), 25, PreparationSettings(body="dwpose"))
