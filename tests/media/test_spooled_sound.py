"""Long sounds in a temporary file are the same as in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fantasytalking.media.audio import load_audio, normalise_loudness
from fantasytalking.media.loudness import normalise_pieces
from fantasytalking.media.spooled_sound import Spool, pieces_of, release_pages
from fantasytalking.pipeline.inputs import load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import GenerationSettings
from tests.media.files import write_sound
from tests.pipeline.tiny_pipeline import speech


def test_a_long_sound_is_mapped_and_the_same() -> None:
    sound = speech(5.0).samples
    spool = Spool(is_long=True)
    for piece in np.array_split(sound, 7):
        spool.push(piece)
    mapped = spool.samples()
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, sound)
    release_pages(mapped)
    assert np.array_equal(np.concatenate([piece.copy() for piece in pieces_of(mapped, 1000)]), sound)
    together = np.concatenate(list(normalise_pieces(mapped, 16000, -20.0)))
    assert np.allclose(together, normalise_loudness(sound, 16000, -20.0), atol=1e-6)


@pytest.mark.parametrize("level", [None, -20.0])
def test_speech_is_read_alike_through_a_file(
    level: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sound(tmp_path / "voice.wav", speech(6.0, 22050).samples[None], 22050)
    rules = ModelRules(speech_level=level)
    usual = load_speech(path, GenerationSettings(), rules)
    for module in ("media.spooled_sound", "pipeline.inputs"):
        monkeypatch.setattr(f"fantasytalking.{module}.SPOOLED", 10_000)
    spooled = load_speech(path, GenerationSettings(), rules)
    assert isinstance(spooled.samples, np.memmap) and isinstance(spooled.soundtrack.samples, np.memmap)
    assert np.array_equal(spooled.soundtrack.samples, usual.soundtrack.samples)
    assert spooled.samples.shape == usual.samples.shape and abs(spooled.samples - usual.samples).max() < 1e-4
    assert (spooled.num_frames, spooled.video_frames) == (usual.num_frames, usual.video_frames)
    assert np.array_equal(load_audio(path, 48000).samples, usual.soundtrack.samples)
