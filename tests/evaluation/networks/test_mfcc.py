"""Speech features of SyncNet; equal to python_speech_features to rounding (docs/metric-networks.md)."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.errors import AudioError
from fantasytalking.evaluation.networks.mfcc import RATE, mfcc


def tone(hertz: float, seconds: float = 0.5, level: float = 0.3) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)


def test_there_are_a_hundred_a_second_of_13() -> None:
    assert mfcc(tone(440, 1.0)).shape == (99, 13)
    assert mfcc(tone(440)[:399]).shape == (1, 13)
    assert mfcc(tone(440)[:401]).shape == (2, 13)


def test_known_numbers() -> None:
    """As python_speech_features 0.6 gives them for a tone of 1 kHz."""
    expected = [21.0849, 8.1629, -24.4770, -33.6028, -10.4070]
    np.testing.assert_allclose(mfcc(tone(1000))[10, :5], expected, atol=2e-4)


def test_loudness_is_in_the_first_number_and_pitch_in_the_others() -> None:
    quiet, loud, high = mfcc(tone(400, level=0.1))[5], mfcc(tone(400, level=0.4))[5], mfcc(tone(3000, level=0.4))[5]
    assert loud[0] - quiet[0] == pytest.approx(2 * np.log(4), abs=0.01)
    assert np.abs(loud[1:] - quiet[1:]).max() < 3 < np.abs(high[1:] - loud[1:]).max()


def test_silence_is_finite_and_other_shapes_are_refused() -> None:
    assert np.isfinite(mfcc(np.zeros(1600))).all()
    for wrong in (np.zeros(0), np.zeros((2, 100))):
        with pytest.raises(AudioError, match="one channel"):
            mfcc(wrong)
