"""Motion of a head whose angles are known functions of time."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.evaluation.metrics.head_motion import head_motion, speech_correlation


def swinging(degrees: tuple[float, float, float], hertz: float, fps: float, seconds: float = 20) -> np.ndarray:
    """Angles [F, 3] that swing like a pendulum."""
    phase = 2 * np.pi * hertz * np.arange(round(seconds * fps)) / fps
    return np.sin(phase)[:, None] * degrees


@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_a_pendulum_has_its_spread_speed_and_jerk(fps: float) -> None:
    found = head_motion(swinging((4, 2, 1), 0.5, fps), fps)
    length, omega = np.sqrt((4**2 + 2**2 + 1) / 2), 2 * np.pi * 0.5
    assert found.spread == pytest.approx(np.array((4, 2, 1)) / np.sqrt(2), rel=0.01)
    assert found.speed == pytest.approx(length * omega, rel=0.02)
    assert found.jerk == pytest.approx(length * omega**3, rel=0.1)


def test_a_head_that_is_still_has_none() -> None:
    found = head_motion(np.full((50, 3), 7.0), 25)
    assert found.spread == (0, 0, 0) and found.speed == pytest.approx(0, abs=1e-9)
    assert found.jerk == pytest.approx(0, abs=1e-6)


def test_a_head_that_passes_180_degrees_does_not_jump() -> None:
    angles = swinging((0, 0, 5), 0.5, 25)
    angles[:, 2] = (angles[:, 2] + 179 + 180) % 360 - 180
    assert head_motion(angles, 25).spread[2] == pytest.approx(5 / np.sqrt(2), rel=0.01)


def test_a_few_frames_are_too_few() -> None:
    with pytest.raises(InputError, match="seen in 5 frames in a row; the head's motion needs 9"):
        head_motion(np.zeros((5, 3)), 25)


def test_a_head_that_moves_while_there_is_speech_follows_it_and_one_that_moves_in_pauses_does_not() -> None:
    spoken = (np.arange(250) // 50) % 2 == 0  # two seconds of speech, two of silence
    rng = np.random.default_rng(0)
    sound = (0.2 * np.repeat(spoken, 640) * rng.standard_normal(250 * 640)).astype(np.float32)
    moving = swinging((4, 2, 1), 1.0, 25, 10)
    follows, against = (
        speech_correlation(moving * np.where(where, 1.0, 0.1)[:, None], sound, 25) for where in (spoken, ~spoken)
    )
    assert follows > 0.6 and against < -0.6
    shifted = speech_correlation(moving * np.where(spoken, 1.0, 0.1)[:, None], 0.01 * sound, 25)
    assert shifted == pytest.approx(follows, abs=0.02)  # whatever the volume


def test_without_motion_or_sound_there_is_no_correlation() -> None:
    with pytest.raises(InputError, match="do not change"):
        speech_correlation(np.full((100, 3), 5.0), np.ones(64000, np.float32), 25)
