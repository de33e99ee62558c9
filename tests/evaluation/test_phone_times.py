"""Phones of the example's speech, where the recogniser is installed; without it see the tests of the metric that uses it."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.evaluation.phone_times import find_phones, is_installed, version
from fantasytalking.evaluation.speech_targets import phone_targets
from fantasytalking.media.audio import load_audio
from fantasytalking.pipeline.model_names import embedded_folder

NEEDS_HAMA = pytest.mark.skipif(not is_installed(), reason="needs the package hama (extra 'eval')")


@NEEDS_HAMA
def test_the_bilabials_of_a_known_sentence_are_found_where_they_are() -> None:
    """It says: Hello! I was a still picture a moment ago. Now I can talk to you."""
    samples = load_audio(embedded_folder() / "example" / "speech.wav", 16000).samples
    phones = find_phones(samples)
    assert "".join(phone.name for phone in phones if phone.name in "pbm") == "pmm"
    targets = phone_targets(phones)
    # by the wave: it is silent from 1.66 to 1.73 s in the p of "picture", and the band of 1 to 4 kHz falls to a murmur in each m of
    # "moment", from 2.18 and from 2.36 s
    np.testing.assert_allclose(targets.closures[:, 0], (1.66, 2.18, 2.36), atol=0.07)
    assert 14 <= len(targets.vowels) <= 22
    assert (np.diff(targets.vowels, axis=1) > 0.07).all() and targets.vowels.max() < len(samples) / 16000
    # "Hello!" ends at 0.6 s and "I was" begins at 1.0 s; "ago." ends at 2.8 s and "Now" begins at 3.5 s
    assert not [start for start, _ in targets.vowels if 0.7 < start < 0.95 or 2.9 < start < 3.5]
    # the same sound later is the same phones later
    later = phone_targets(find_phones(np.concatenate([np.zeros(8000, np.float32), samples])))
    np.testing.assert_allclose(later.closures - 0.5, targets.closures, atol=0.061)


@NEEDS_HAMA
def test_silence_has_no_phones() -> None:
    assert phone_targets(find_phones(np.zeros(16000, np.float32))).closures.shape == (0, 2)


def test_the_version_stands_for_the_weights() -> None:
    assert (version() == "not installed") != is_installed()
