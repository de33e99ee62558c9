"""`fantasytalking convert` converts between layouts; an error is one sentence and status 2."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fantasytalking.checkpoints import load_transformer, save_adapter
from fantasytalking.cli.__main__ import main
from fantasytalking.data.preparation.model_requirements import PreparationModel
from fantasytalking.errors import CheckpointError
from tests.checkpoints import tiny

SIZES = {"image_encoder": tiny.CLIP_SIZES}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny folders like the downloaded ones."""
    root = tmp_path_factory.mktemp("weights")
    tiny.write_original_wan(root / "wan")
    tiny.write_speech_encoder(root / "wav2vec2")
    adapter = save_adapter(tiny.transformer(**tiny.AUDIO), root / "adapter.ckpt", "released")
    (root / "sizes.json").write_text(json.dumps(SIZES))
    return {"wan": root / "wan", "speech": root / "wav2vec2", "adapter": adapter, "sizes": root / "sizes.json"}


def convert(parts: dict[str, Path], target: Path, *words: str, source: str = "wan") -> int:
    options = ["--adapter", parts["adapter"], "--audio-encoder", parts["speech"], "--config", parts["sizes"]]
    return main(["convert", *map(str, [parts[source], target, "--layout", "pipeline", *options, *words])])


def same(first: nn.Module, second: nn.Module) -> bool:
    return tiny.same_weights(first.float(), second.float())


@pytest.mark.parametrize("layout", ["safetensors", "comfyui", "model"])
def test_an_adapter_goes_there_and_back(parts, layout, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    there, back = tmp_path / "there.safetensors", tmp_path / "back.ckpt"
    assert main(["convert", str(parts["adapter"]), str(there), "--layout", layout]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(there)
    assert main(["convert", str(there), str(back), "--layout", "released", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"output": str(back), "from": f"adapter-{layout}", "layout": "released"}
    first, second = (torch.load(file, weights_only=True) for file in (parts["adapter"], back))
    assert all(torch.equal(first[part][key], second[part][key]) for part in first for key in first[part])


def test_published_parts_become_a_folder_that_the_pipeline_loads(parts, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    from fantasytalking import FantasyTalkingPipeline

    target = tmp_path / "pipeline"
    assert convert(parts, target, "--dtype", "float32") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(target)
    pipeline = FantasyTalkingPipeline.from_pretrained(target)
    expected = {"vae": tiny.vae(), "text_encoder": tiny.text_encoder(), "image_encoder": tiny.image_encoder()}
    assert all(tiny.same_weights(getattr(pipeline, name), model) for name, model in expected.items())
    transformer = load_transformer(parts["wan"], torch.float32, adapter=parts["adapter"])
    assert tiny.same_weights(pipeline.transformer, transformer)
    speech = tiny.write_speech_encoder(tmp_path / "speech").state_dict()
    assert all(torch.equal(value, speech[key]) for key, value in pipeline.audio_encoder.state_dict().items())
    assert pipeline.tokenizer("a person").input_ids == [3, 4, 1]
    assert pipeline.scheduler.config.shift == 5.0
    assert pipeline.image_processor(images=torch.zeros(3, 90, 60).byte(), return_tensors="pt").pixel_values.shape == (
        1,
        3,
        224,
        224,
    )


def test_the_diffusers_layout_becomes_the_same_pipeline(parts, tmp_path) -> None:  # type: ignore[no-untyped-def]
    first, again = tmp_path / "first", tmp_path / "again"
    assert convert(parts, first) == 0
    # The content of -Diffusers: the same parts, and a transformer without audio.
    (first / "model_index.json").write_text(json.dumps({"_class_name": "WanImageToVideoPipeline"}))
    plain = tiny.transformer(audio_dim=None)
    for file in (first / "transformer").iterdir():
        file.unlink()
    plain.save_pretrained(first / "transformer")
    with pytest.raises(CheckpointError, match="put the adapter on it with 'fantasytalking convert'"):
        PreparationModel(str(first)).speech_encoder  # noqa: B018
    assert convert(parts | {"wan": first}, again, "--dtype", "float32") == 0
    assert len(PreparationModel(str(again)).speech_features(np.zeros(16000, np.float32))) > 0
    model = load_transformer(again, torch.float32)
    assert tiny.same_weights(model, load_transformer(parts["wan"], torch.float32, adapter=parts["adapter"]))


def test_the_type_of_the_transformer_is_chosen_and_the_vae_stays_exact(parts, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert convert(parts, tmp_path / "pipeline") == 0
    transformer = load_file(tmp_path / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert transformer["blocks.0.attn1.to_q.weight"].dtype == torch.bfloat16
    assert transformer["blocks.0.norm2.weight"].dtype == torch.float32
    vae = load_file(tmp_path / "pipeline" / "vae" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in vae.values()} == {torch.float32}


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and message.endswith(".")
    return message


def test_what_is_missing_is_named_before_anything_is_written(parts, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "pipeline"
    words = [str(parts["wan"]), str(target), "--layout", "pipeline"]
    assert main(["convert", *words]) == 2
    assert "--audio-encoder" in refused(capsys)
    assert main(["convert", *words, "--audio-encoder", str(parts["speech"]), "--config", str(parts["sizes"])]) == 2
    assert "--adapter" in refused(capsys)
    assert convert(parts | {"speech": tmp_path}, target) == 2
    assert "not a speech encoder" in refused(capsys)
    assert not target.exists()


@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer_config.json"])
def test_a_part_that_was_not_copied_is_named(tmp_path, parts, capsys, name) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(parts["wan"], tmp_path / "wan")
    (tmp_path / "wan" / name).unlink()
    assert convert(parts | {"wan": tmp_path / "wan"}, tmp_path / "pipeline") == 2
    assert name.split("/")[0].split(".")[0] in refused(capsys)
    assert not (tmp_path / "pipeline").exists()


def test_existing_targets_are_kept(parts, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "adapter.safetensors"
    target.write_text("mine")
    words = ["convert", str(parts["adapter"]), str(target), "--layout", "safetensors"]
    assert main(words) == 2 and "--overwrite" in refused(capsys)
    assert target.read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    assert convert(parts, tmp_path / "pipeline") == 2 and "already holds a pipeline" in refused(capsys)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(parts, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert convert(parts, tmp_path / "pipeline") == 2
    assert "choose a larger disk" in refused(capsys)
    assert not (tmp_path / "pipeline").exists()


def test_a_model_does_not_become_an_adapter_and_rubbish_becomes_nothing(parts, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["convert", str(parts["wan"]), str(tmp_path / "a.ckpt"), "--layout", "released"]) == 2
    assert "wan-original" in refused(capsys)
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert main(["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "a.ckpt"), "--layout", "released"]) == 2
    assert "has an unknown layout" in refused(capsys)
    assert main(["convert", str(tmp_path / "none"), str(tmp_path / "a.ckpt"), "--layout", "released"]) == 2
    assert "no weights at" in refused(capsys)
