"""What a model decides about its set: the embedded one, and one with Wan's autoencoder, at tiny width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from fantasytalking.data.preparation.clip_records import PreparedClip, StageClock
from fantasytalking.data.preparation.model_requirements import PreparationModel
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.prepare_clip import ClipPreparer
from fantasytalking.errors import CheckpointError
from tests.data.preparation.footage import FRAME, decoded_frames, decoded_sound, early, load, whole, write
from tests.pipeline.tiny_pipeline import wan_pipeline


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    wan_pipeline().save_pretrained(folder)
    return folder


def test_the_embedded_model_wants_25_frames_and_no_latents() -> None:
    model = PreparationModel("embedded")
    assert (model.fps, model.longest_side, model.multiple) == (25, 448, 2)
    assert model.face_backend == "mobilefacenet"
    assert not model.encodes_latents
    quiet = 0.01 * np.sin(np.arange(16000) / 20).astype(np.float32)
    assert np.sqrt(np.mean(model.levelled(quiet) ** 2)) == pytest.approx(0.1, rel=0.1)  # -20 dBFS
    assert model.speech_features(quiet).shape == (50, 384)


def test_a_wan_model_wants_23_frames_and_latents(wan: Path) -> None:
    model = PreparationModel(str(wan))
    assert (model.fps, model.longest_side, model.multiple) == (23, 64, 16)
    assert model.encodes_latents and model.pipeline.transformer is None
    assert not PreparationModel(str(wan), latents="off").encodes_latents
    assert PreparationModel(str(wan), latents="off").pipeline.vae is None


def test_a_model_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no readable model_index.json .*; give embedded, or a folder that .* made"
    ):
        PreparationModel(str(tmp_path))
    (tmp_path / "model_index.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"model_index.json .* is not a JSON object"):
        PreparationModel(str(tmp_path))


def test_a_clip_for_a_wan_model_holds_windows_in_step(wan: Path, talking: Path, tmp_path: Path) -> None:
    frames, sound = load(talking / "lively.mp4")
    path = write(tmp_path / "shifted.mp4", frames, early(sound, 5))
    (tmp_path / "shifted.txt").write_text("A woman\nspeaks.\n")
    settings = PreparationSettings(
        model=str(wan), max_side=128, window_frames=17, windows=2, captions="sidecar", device="cpu"
    )
    outcome = ClipPreparer(settings)(whole(path), StageClock())
    assert isinstance(outcome, PreparedClip), outcome
    assert outcome.row["caption"] == "A woman speaks."
    # 5 frames of 1/25 s are 4.6 of 1/23 s: the first frame left is the fifth, and the sound begins 0.0174 s in
    assert (outcome.row["sync_shift"], outcome.row["frames"], outcome.row["fps"]) == (5, 59 - 5, 23)
    pictures = decoded_frames(outcome.files["mp4"])
    assert pictures.shape == (54, outcome.row["height"], outcome.row["width"], 3)
    assert pictures.shape[1] % 16 == pictures.shape[2] % 16 == 0 and max(pictures.shape[1:3]) <= 128
    heard = decoded_sound(outcome.files["flac"])
    assert len(heard) == round(54 / 23 * 16000)
    # the shifted file's sound at 0.0174 s is the original's 0.2 s later
    begin = round((5 / 23 - 0.2) * 16000) + 5 * FRAME
    assert np.corrcoef(heard[:30000], sound[begin : begin + 30000])[0, 1] > 0.95
    tensors = load_tensors(outcome.files["safetensors"])
    assert tensors["window_starts"].tolist() == [0, 37]
    rows, columns = tensors["latents.0"].shape[2:]
    assert tensors["latents.1"].shape == (16, 5, rows, columns) and tensors["latents.1"].dtype == torch.bfloat16
    assert tensors["condition.1"].shape == (20, 5, rows, columns)
    assert tensors["lip_mask.1"].shape == (1, 5, rows, columns)
    assert 0 < float(tensors["lip_mask.1"].float().mean()) < 0.3
    assert tensors["motion.0"].shape == (2,) and not torch.equal(tensors["motion.0"], tensors["motion.1"])
