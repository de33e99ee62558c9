"""A speech encoder in place of the model's own: loaded from a folder, checked, told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import HubertConfig, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.load_pipeline import load_pipeline
from tests.pipeline.test_dubbing import Quiet
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline, wav2vec2


def write_encoder(folder: Path, rate: int = 16000, **changes: Any) -> Path:
    """A network like the tiny model's own, with other weights."""
    torch.manual_seed(9)
    network = Wav2Vec2Model(Wav2Vec2Config(**{**wav2vec2().config.to_dict(), **changes}))
    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models like the released and the embedded one, and another encoder."""
    folder = tmp_path_factory.mktemp("files")
    wan_pipeline().save_pretrained(folder / "wan")
    embedded_pipeline().save_pretrained(folder / "embedded")
    write_encoder(folder / "other")
    return folder


def test_the_speech_is_heard_by_the_other_network(files: Path) -> None:
    def latents(pipeline: Any) -> torch.Tensor:
        made: torch.Tensor = pipeline(portrait(64), speech(), progress=Quiet(), output_type="latent").frames
        return made

    plain = load_pipeline(str(files / "wan"), "cpu")
    other = load_pipeline(str(files / "wan"), "cpu", speech_encoder=files / "other")
    made, usual = latents(other), latents(plain)
    assert (made - usual).abs().max() > 1e-3
    plain.audio_encoder = Wav2Vec2Model.from_pretrained(files / "other").eval()
    plain.audio_processor = Wav2Vec2FeatureExtractor.from_pretrained(files / "other")
    torch.testing.assert_close(latents(plain), made, rtol=0, atol=1e-5)


def test_the_command_line_tells_of_it(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "voice.mp4", np.zeros((10, 64, 64, 3), np.uint8), 25, speech(0.4), preset="ultrafast")
    words = ["generate", "--image", str(tmp_path / "face.png"), "--audio", str(tmp_path / "voice.mp4"), "--json"]
    from PIL import Image

    Image.fromarray(portrait(64)).save(tmp_path / "face.png")
    words += ["--model", str(files / "wan"), "--output", str(tmp_path / "out.mp4"), "--steps", "1"]
    assert main([*words, "--speech-encoder", str(files / "other")]) == 0
    assert any("is heard by" in note for note in json.loads(capsys.readouterr().out)["notes"])


def test_what_does_not_fit_is_one_sentence(files: Path, tmp_path: Path) -> None:
    narrow = write_encoder(tmp_path / "narrow", hidden_size=8)
    deep = write_encoder(tmp_path / "deep", num_hidden_layers=2)
    slow = write_encoder(tmp_path / "slow", rate=8000)
    fast = write_encoder(tmp_path / "fast", conv_stride=(5, 2, 2, 2, 2, 2, 1))
    HubertConfig().save_pretrained(tmp_path / "hubert")
    bare = tmp_path / "bare"
    wav2vec2().config.save_pretrained(bare)
    model = str(files / "wan")
    for folder, kind, message in (
        (narrow, SettingsError, "has 8 features that are so wide, and this model needs 16"),
        (deep, SettingsError, "has 2 layers, and this model needs 1"),
        (slow, SettingsError, "hears 8000 Hz, and this model needs 16000"),
        (fast, SettingsError, "has 160 samples a feature, and this model needs 320"),
        (tmp_path / "hubert", SettingsError, "is a hubert network"),
        (bare, CheckpointError, "cannot be read"),
        (tmp_path / "nowhere", CheckpointError, "There is no speech encoder"),
    ):
        with pytest.raises(kind, match=message):
            load_pipeline(model, "cpu", speech_encoder=folder)
    with pytest.raises(
        SettingsError, match="hears speech through WhisperEncoder, and another encoder can only replace a"
    ):
        load_pipeline(str(files / "embedded"), "cpu", speech_encoder=files / "other")
