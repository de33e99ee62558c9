"""Blinks and head motion on meshes that are moved by known amounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.eye_readings import average_readings
from fantasytalking.evaluation.footage import Footage, load_footage
from fantasytalking.evaluation.metrics import articulation, face_found, head_motion
from fantasytalking.evaluation.metrics.blinks import Blink, find_blinks, standard
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.perception.face_measures import eye_opening
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.perception.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from tests.perception.pictures import portrait

FPS = 25.0
BLINK = (0.8, 0.3, 0.1, 0.3, 0.6, 0.9)
"""Share of the opening that is left, frame by frame."""


@pytest.fixture(scope="module")
def face() -> NDArray[np.float64]:
    return face_mesh(portrait()).points.astype(np.float64)


def closing(face: NDArray[np.float64], right: NDArray[np.float64], left: NDArray[np.float64]) -> NDArray[np.float64]:
    """Meshes [F, 468, 3] whose eyes are open by the given shares."""
    points = np.repeat(face[None], len(right), axis=0)
    for pairs, shares in ((RIGHT_LID_PAIRS, right), (LEFT_LID_PAIRS, left)):
        for upper, lower in pairs:
            gap = points[:, upper] - points[:, lower]
            points[:, upper] = points[:, lower] + shares[:, None] * gap
    return points


def shares(frames: int, at: Sequence[int], blink: Sequence[float] = BLINK) -> NDArray[np.float64]:
    found = np.ones(frames)
    for start in at:
        found[start : start + len(blink)] = blink
    return found


def test_blinks_are_found_where_they_are(face: NDArray[np.float64]) -> None:
    drawn = shares(150, (20, 60, 120))
    openings = eye_opening(closing(face, drawn, drawn))
    np.testing.assert_allclose(openings[22] / openings[0], 0.1, atol=1e-6)
    found = find_blinks(openings, FPS)
    assert len(found) == 3
    for blink, start in zip(found, (20, 60, 120), strict=True):
        # half of the depth, 0.55, is crossed between 0.8 and 0.3, and between 0.3 and 0.6
        assert blink.start == pytest.approx((start + 0.5) / FPS) and blink.end == pytest.approx(
            (start + 3 + 5 / 6) / FPS
        )
        assert blink.seconds == pytest.approx((3 + 1 / 3) / FPS)
        assert blink.remaining == pytest.approx((0.1, 0.1)) and blink.symmetry == pytest.approx(1)
        assert blink.depth == pytest.approx(0.1)


def test_the_frame_rate_changes_nothing_but_the_grid(face: NDArray[np.float64]) -> None:
    drawn = np.interp(np.arange(180) / 30, np.arange(150) / 25, shares(150, (20, 60, 120)))
    found = find_blinks(eye_opening(closing(face, drawn, drawn)), 30.0)
    assert [round(blink.start, 1) for blink in found] == [0.8, 2.4, 4.8]


def test_an_eye_that_closes_less_is_told(face: NDArray[np.float64]) -> None:
    right = shares(60, (20,))
    found = find_blinks(eye_opening(closing(face, right, 1 - (1 - right) / 3)), FPS)
    assert len(found) == 1
    assert found[0].openings == (0, 0), "for real eyes both are closed"
    assert Blink(0, 0.1, (0.86, 1.1)).openings == pytest.approx((0.5, 1))
    assert found[0].remaining == pytest.approx((0.1, 0.7)) and found[0].symmetry == pytest.approx(1 / 3)


def test_a_look_down_a_tremor_and_a_nap_are_no_blinks(face: NDArray[np.float64]) -> None:
    slow = np.interp(np.arange(100), [0, 20, 50, 80, 99], [1, 1, 0.6, 1, 1])
    tremor = 1 + 0.05 * np.sin(np.arange(100))
    nap = np.where((np.arange(100) > 20) & (np.arange(100) < 70), 0.1, 1)
    for drawn in (slow, tremor, nap, np.ones(100)):
        assert find_blinks(eye_opening(closing(face, drawn, drawn)), FPS) == []


def test_a_long_blink_is_one_and_as_long_as_it_is(face: NDArray[np.float64]) -> None:
    drawn = shares(60, (20,), (0.5, 0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.5))
    found = find_blinks(eye_opening(closing(face, drawn, drawn)), FPS)
    assert len(found) == 1 and found[0].seconds == pytest.approx(10 / FPS, abs=0.02)


def test_two_blinks_in_quick_succession_are_two(face: NDArray[np.float64]) -> None:
    drawn = shares(60, (20, 26))
    assert len(find_blinks(eye_opening(closing(face, drawn, drawn)), FPS)) == 2


def test_an_error_that_depends_on_the_side_is_taken_away_by_the_second_reading(face: NDArray[np.float64]) -> None:
    right = shares(200, (20, 100))
    left = 1 - (1 - right) / 2
    error = np.zeros(200)  # what is read too narrow in a frame is read too wide in its mirror image
    for start in (50, 70, 150, 170):
        error[start : start + 5] = 0.1, 0.25, 0.3, 0.25, 0.1
    seen = np.ones(200, np.float32)
    direct = closing(face, right * (1 - error), left * (1 - error))
    # in the mirror image the network takes the right eye for the left one, and reads 0.8 of the opening of all
    mirrored = closing(face, 0.8 * left * (1 + error), 0.8 * right * (1 + error))
    openings, scores = average_readings((direct, seen), (mirrored, seen))
    found = find_blinks(openings, FPS)
    assert [blink.remaining for blink in found] == [pytest.approx((0.1, 0.55))] * 2
    for blink, true in zip(found, find_blinks(eye_opening(closing(face, right, left)), FPS), strict=True):
        assert (blink.start, blink.end) == pytest.approx((true.start, true.end))
    assert (scores == 1).all()
    assert len(find_blinks(eye_opening(direct), FPS)) == 6, "one reading takes the errors for blinks"


@pytest.mark.parametrize("name", ["calm", "lively"])
def test_a_mirrored_video_has_the_same_blinks_with_left_and_right_exchanged(
    name: str, request: pytest.FixtureRequest
) -> None:
    clip: Footage = request.getfixturevalue(name)
    mirrored = dataclasses.replace(clip, frames=np.ascontiguousarray(clip.frames[:, :, ::-1]))
    own, other = clip.eyes[0], mirrored.eyes[0][:, ::-1]
    np.testing.assert_allclose(own, other, atol=1e-5)
    assert np.abs(eye_opening(clip.track[0]) - eye_opening(mirrored.track[0])[:, ::-1]).max() > 0.01
    found, again = find_blinks(own, FPS), find_blinks(other, FPS)
    assert len(found) == len(again) == 1
    assert dataclasses.astuple(found[0])[:2] == pytest.approx(dataclasses.astuple(again[0])[:2], abs=1e-4)
    assert found[0].remaining == pytest.approx(again[0].remaining, abs=1e-4)
    assert standard().measure(clip, clip).values == pytest.approx(standard().measure(mirrored, clip).values, abs=1e-3)


def test_a_still_portrait_that_an_encoder_has_touched_neither_blinks_nor_turns(
    calm: Footage, lively: Footage, tmp_path: Path
) -> None:
    sound = Audio(np.zeros(0, np.float32), 16000) if calm.sound is None else Audio(calm.sound, 16000)
    write_video(tmp_path / "still.mp4", np.repeat(calm.frames[:1], len(calm.frames), axis=0), FPS, sound, crf=28)
    still = load_footage(tmp_path / "still.mp4", calm.protocol)
    assert standard().measure(still, lively).values == {"blink_rate": 0}
    ratios = dict(head_motion.standard().measure(still, lively).values)
    with_speech = ratios.pop("head_with_speech")
    assert (
        set(ratios) == {"yaw_spread", "pitch_spread", "roll_spread", "head_speed", "head_jerk"}
        and abs(with_speech) <= 1
    )
    # the mesh trembles with the encoder's noise, which shows most where it is differentiated most
    assert ratios["head_jerk"] < 0.5
    assert max(ratio for name, ratio in ratios.items() if name != "head_jerk") < 0.25
    own = {key: head_motion.standard().measure(lively, lively).values[key] for key in ratios}
    assert own == pytest.approx(dict.fromkeys(ratios, 1.0))
    assert articulation.standard().measure(still, lively).values["lip_spread"] < 0.1
    assert face_found.standard().measure(still, lively).values == {"face_found": 1}
    with pytest.raises(InputError, match="head of the real clip is still"):
        head_motion.standard().measure(lively, dataclasses.replace(still, frames=still.frames[:1].repeat(50, axis=0)))


def test_a_face_that_goes_away_is_told(calm: Footage) -> None:
    gone = calm.frames.copy()
    gone[len(gone) // 2 :] = 128
    half = face_found.standard().measure(dataclasses.replace(calm, frames=gone), calm).values["face_found"]
    assert half == pytest.approx(0.5, abs=0.05)
    grey = dataclasses.replace(calm, frames=np.full_like(calm.frames, 128))
    assert face_found.standard().measure(grey, calm).values == {"face_found": 0}
    with pytest.raises(InputError, match="blinks need a second"):
        standard().measure(dataclasses.replace(calm, frames=calm.frames[:20]), calm)
    # the one blink of 65 frames is in the stretch that is left, from frame 20
    late = calm.frames.copy()
    late[:20] = 128
    values = standard().measure(dataclasses.replace(calm, frames=late), calm).values
    assert values["blink_rate"] == pytest.approx(60 / (45 / FPS))
