"""The running forms of normalisation beside those for whole recordings."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.media.audio import load_audio
from fantasytalking.media.loudness import PEAK, normalise_loudness
from fantasytalking.media.running_level import BLOCK, RunningLevel, speech_rule, unit_rule
from fantasytalking.pipeline.model_names import embedded_folder


@pytest.fixture(scope="module")
def recording() -> NDArray[np.float32]:
    samples = np.tile(load_audio(embedded_folder() / "example" / "speech.wav", 16000).samples, 3)
    return samples[: len(samples) // BLOCK * BLOCK]


def decibels(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.square(samples, dtype=np.float64).mean()))


@pytest.mark.parametrize("gain", [0.1, 0.3, 1.0])
def test_speech_comes_to_the_level_of_a_whole_recording(gain: float, recording: NDArray[np.float32]) -> None:
    whole = normalise_loudness(recording * np.float32(gain))
    running = RunningLevel(speech_rule(-20.0), PEAK).apply(recording * np.float32(gain))
    half = len(whole) // 2
    assert abs(decibels(whole[half:]) - decibels(running[half:])) < 2.0


def test_the_level_does_not_jump(recording: NDArray[np.float32]) -> None:
    loud_then_quiet = np.concatenate([recording, 0.02 * recording]).astype(np.float32)
    level, before = RunningLevel(speech_rule(-20.0)), None
    for start in range(0, len(loud_then_quiet), BLOCK):
        level.apply(loud_then_quiet[start : start + BLOCK])
        gain = float(level.state()["numbers"][1])
        assert before is None or abs(gain - before) <= (1.0 if start < 60 * BLOCK else 0.1) + 1e-9
        before = gain


def test_a_room_without_a_voice_is_not_amplified() -> None:
    noise = (0.0005 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    assert abs(decibels(RunningLevel(speech_rule(-20.0)).apply(noise)) - decibels(noise)) < 0.1
    # wav2vec2 wants unit variance, of a voice
    assert decibels(RunningLevel(unit_rule).apply(np.zeros(32000, np.float32) + noise)) < 0.0


def test_speech_comes_to_unit_variance(recording: NDArray[np.float32]) -> None:
    found = RunningLevel(unit_rule).apply(recording + np.float32(0.01))[len(recording) // 2 :]
    assert abs(found.mean()) < 0.02 and 0.8 < found.std() < 1.25


def test_a_stored_state_goes_on(recording: NDArray[np.float32]) -> None:
    half = len(recording) // 2 // BLOCK * BLOCK
    whole, first, second = (RunningLevel(speech_rule(-20.0), PEAK) for _ in range(3))
    first.apply(recording[:half])
    second.restore(first.state())
    assert np.array_equal(whole.apply(recording)[half:], second.apply(recording[half:]))
