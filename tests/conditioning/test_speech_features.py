"""Speech encoders and the projector."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WhisperConfig, WhisperFeatureExtractor, WhisperModel

from fantasytalking.conditioning.speech_features import AudioProjector, SpeechEncoder
from fantasytalking.errors import AudioError, CheckpointError
from fantasytalking.pipeline.model_names import embedded_folder
from tests.tiny import tiny_wav2vec2, tiny_whisper

DEMO = embedded_folder() / "audio_encoder"


def tone(seconds: float) -> np.ndarray:
    """A chirp with a beat, different at every moment."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * (150 + 10 * time) * time) * (1 + np.sin(9 * time))).astype(np.float32)


def test_the_projector_has_the_released_names() -> None:
    projector = AudioProjector(6, 8)
    assert set(projector.state_dict()) == {"proj.weight", "norm.weight", "norm.bias"}
    assert projector(torch.zeros(2, 5, 6)).shape == (2, 5, 8)


def test_wav2vec2_hears_a_normalised_waveform() -> None:
    encoder = tiny_wav2vec2()
    wave = tone(1.3)
    features = encoder.encode(wave)
    assert features.shape == ((wave.size - 400) // 320 + 1, 16) and features.dtype == torch.float32
    torch.testing.assert_close(encoder.encode(0.1 * wave + 0.05), features, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.53, 30.0])
def test_whisper_gives_50_features_for_each_second_of_the_true_length(seconds: float) -> None:
    assert tiny_whisper().encode(tone(seconds)).shape == (round(seconds * 50), 16)


@pytest.mark.parametrize("make", [tiny_whisper, tiny_wav2vec2])
def test_long_speech_is_encoded_in_blocks_whose_edges_do_not_show(make: object) -> None:
    encoder = make()  # type: ignore[operator]
    features = encoder.encode(tone(47.0))
    assert abs(len(features) - 47 * 50) <= 1
    assert torch.isfinite(features).all()
    steps = features.diff(dim=0).norm(dim=1)
    assert steps[1295:1305].max() < steps.max() * 1.01
    assert steps[1495:1505].max() < steps.max() * 1.01


def test_the_first_block_of_long_speech_is_that_of_the_short_one() -> None:
    encoder, wave = tiny_whisper(), tone(40)
    torch.testing.assert_close(encoder.encode(wave)[:1299], encoder.encode(wave[: 30 * 16_000])[:1299])


def test_a_tensor_serves_as_well_as_an_array() -> None:
    encoder, wave = tiny_wav2vec2(), tone(0.5)
    assert torch.equal(encoder.encode(torch.from_numpy(wave)), encoder.encode(wave))


@pytest.mark.parametrize("shape", [(0,), (399,), (2, 16_000)])
def test_speech_that_is_too_short_or_not_mono_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match="one channel"):
        tiny_wav2vec2().encode(np.zeros(shape, np.float32))


@pytest.mark.parametrize("make", [tiny_whisper, tiny_wav2vec2])
def test_an_encoder_is_saved_and_loaded_in_the_layout_of_transformers(make: object, tmp_path: Path) -> None:
    encoder, wave = make(), tone(0.6)  # type: ignore[operator]
    encoder.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert torch.equal(SpeechEncoder.from_pretrained(tmp_path).encode(wave), encoder.encode(wave))
    encoder.save_pretrained(tmp_path, dtype=torch.float16)
    again = SpeechEncoder.from_pretrained(tmp_path)
    assert again.dtype == torch.float32 and again.feature_dim == 16
    torch.testing.assert_close(again.encode(wave), encoder.encode(wave), atol=0.1, rtol=0.1)


def test_the_encoder_of_a_whole_whisper_model_is_used(tmp_path: Path) -> None:
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=51865,
    )  # fmt: skip
    whole = WhisperModel(config).eval()
    whole.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    expected = SpeechEncoder(whole.encoder, WhisperFeatureExtractor(feature_size=80)).encode(tone(0.4))
    assert torch.equal(SpeechEncoder.from_pretrained(tmp_path).encode(tone(0.4)), expected)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="needs a WhisperFeatureExtractor"):
        SpeechEncoder(tiny_whisper().network, Wav2Vec2FeatureExtractor())
    with pytest.raises(CheckpointError, match="16000 Hz"):
        SpeechEncoder(tiny_wav2vec2().network, Wav2Vec2FeatureExtractor(sampling_rate=8000))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        SpeechEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="is a bert"):
        SpeechEncoder.from_pretrained(tmp_path)


@pytest.mark.skipif(not DEMO.is_dir(), reason="the embedded model is not in this installation")
def test_the_embedded_encoder_is_the_one_its_notice_describes() -> None:
    digest = hashlib.sha256((DEMO / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (DEMO / "NOTICE").read_text()
    assert "MIT License" in (DEMO / "LICENSE").read_text()


@pytest.mark.skipif(not DEMO.is_dir(), reason="the embedded model is not in this installation")
def test_the_embedded_encoder_hears_a_difference_between_sound_and_silence() -> None:
    encoder = SpeechEncoder.from_pretrained(DEMO)
    assert encoder.feature_dim == 384 and encoder.dtype == torch.float32
    wave = np.concatenate([tone(1.0), np.zeros(16_000, np.float32)])
    features = encoder.encode(wave)
    assert features.shape == (100, 384)
    assert (features[10:40] - features[60:90]).norm(dim=1).mean() > 10
