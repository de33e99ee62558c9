from __future__ import annotations

import wave
from pathlib import Path

import make_speech
import numpy as np
import pytest
from make_speech import FIRST, PEAK, RATE, STEP, SYLLABLES, measure_onsets, place_syllables, say_to_samples, spoken_part

from fantasytalking.errors import InputError


def tone(seconds: float, loudness: float = 0.5) -> np.ndarray:
    return (loudness * np.sin(2 * np.pi * 150 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_silence_around_speech_is_cut_and_its_peak_is_the_same_for_all() -> None:
    silence = np.zeros(3000, np.float32)
    part = spoken_part(np.concatenate([silence, tone(0.3, 0.1), silence]))
    assert len(part) == pytest.approx(0.3 * RATE, abs=RATE / 150)
    assert np.abs(part).max() == pytest.approx(PEAK, abs=0.01)
    assert part[-1] == 0


def test_onsets_are_those_of_the_sound() -> None:
    track, onsets = place_syllables({name: spoken_part(tone(0.3)) for name in ("pa", "ba", "ma")})
    assert [name for _, name in onsets[:4]] == ["pa", "ba", "ma", "pa"]
    assert [time for time, _ in onsets] == pytest.approx([FIRST + k * STEP for k in range(SYLLABLES)], abs=0.001)
    assert len(track) == 7.2 * RATE


def test_sound_that_goes_on_is_no_second_onset() -> None:
    pause = np.zeros(round(0.03 * RATE), np.float32)
    track = np.concatenate([np.zeros(1600, np.float32), tone(0.2), pause, tone(0.2)])
    assert measure_onsets(track) == pytest.approx([0.1], abs=0.001)


def test_syllables_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(InputError, match="onsets are heard in the track of 11 syllables"):
        place_syllables({"pa": tone(0.3), "ba": np.zeros(100, np.float32), "ma": tone(0.3)})


def test_a_synthesiser_that_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="said nothing"):
        spoken_part(np.zeros(100, np.float32))


def test_a_missing_synthesiser_is_one_sentence() -> None:
    with pytest.raises(InputError, match="The synthesiser no-such-voice is not installed; install Debian's package"):
        say_to_samples(lambda text, path: ["no-such-voice", text, str(path)], "pa")


def test_a_written_track_has_16_bits(tmp_path: Path) -> None:
    make_speech.write_wav(tmp_path / "a.wav", tone(0.5))
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1)
        assert file.getnframes() == 0.5 * RATE
