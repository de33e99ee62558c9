"""Speech is told from other sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fantasytalking.data.preparation.clip_records import Refusal
from fantasytalking.data.preparation.detect_speech import check_speech, speech_share
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.media.audio import load_audio
from fantasytalking.pipeline.model_names import embedded_folder
from tests.media.files import tone

SPEECH = load_audio(embedded_folder() / "example" / "speech.wav").samples[:48000]


def test_speech_is_heard_and_other_sound_is_not() -> None:
    assert speech_share(SPEECH) > 0.6
    assert speech_share(tone(3)) == 0
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000).astype(np.float32)
    assert speech_share(noise) < 0.1
    silence = np.zeros(48000, np.float32)
    assert speech_share(silence) == 0
    # half of it, and the same when asked again
    mixed = np.concatenate([SPEECH, silence])
    assert speech_share(mixed) == speech_share(mixed) == pytest.approx(speech_share(SPEECH) / 2, abs=0.1)


def test_too_little_speech_is_one_sentence() -> None:
    mostly_silent = np.concatenate([SPEECH[:16000], np.zeros(64000, np.float32)])
    with pytest.raises(Refusal, match=r"heard in \d+% of the clip; at least 30% are needed") as refusal:
        check_speech(mostly_silent, PreparationSettings())
    assert refusal.value.reason == "no-speech"
    assert 0 < refusal.value.row["speech_share"] < 0.3


def test_the_number_of_threads_stays() -> None:
    before = torch.get_num_threads()
    speech_share(SPEECH)
    assert torch.get_num_threads() == before
