"""Model folders: saved and loaded again, found by name, and every way in which one can be incomplete."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import TorchAoConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.pipeline.load_pipeline import load_pipeline
from fantasytalking.pipeline.model_folder import check_weights
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.machine import choose_device
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.pipeline.tiny_pipeline import EXAMPLE, embedded_pipeline, portrait, speech, wan_pipeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    embedded_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_a_saved_pipeline_loads_as_the_same_classes_and_makes_the_same_video(make: Any, tmp_path: Path) -> None:
    before = make()
    before.save_pretrained(tmp_path)
    after = FantasyTalkingPipeline.from_pretrained(tmp_path)
    assert {name: type(part) for name, part in after.components.items()} == {
        name: type(part) for name, part in before.components.items()
    }
    assert after.rules == before.rules and after.settings() == before.settings()
    one, two = (pipeline(portrait(), speech(0.3)).frames for pipeline in (before, after))
    assert np.array_equal(one, two)


def test_the_index_names_this_packages_classes_by_their_public_names(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    assert index["transformer"] == ["fantasytalking", "FantasyTalkingTransformer3DModel"]
    assert index["vae"] == ["fantasytalking", "MeshAutoencoder"]
    assert index["audio_encoder"] == ["fantasytalking", "WhisperEncoder"]
    assert index["native_fps"] == 25.0 and index["defaults"]["steps"] == 2


def test_weights_stored_in_half_precision_run_in_single_precision_on_a_processor(folder: Path) -> None:
    pipeline = FantasyTalkingPipeline.from_pretrained(folder, dtype=torch.float16)
    pipeline.save_pretrained(folder)
    loaded = load_pipeline(str(folder), "cpu")
    assert {part.dtype for part in (loaded.transformer, loaded.audio_encoder, loaded.vae)} == {torch.float32}
    assert loaded(portrait(), speech(0.3)).frames.any()


def test_a_transformer_in_bfloat16_works_with_its_neighbours_in_single_precision(folder: Path) -> None:
    loaded = load_pipeline(str(folder), "cpu", "bfloat16")
    assert (loaded.transformer.dtype, loaded.audio_encoder.dtype) == (torch.bfloat16, torch.float32)
    assert loaded(portrait(), speech(0.3)).frames.any()


def test_names_lead_to_folders_or_the_hub(tmp_path: Path) -> None:
    assert resolve_model("owner/name") == "owner/name"
    assert resolve_model(str(tmp_path)) == tmp_path
    demo = resolve_model("embedded")
    assert isinstance(demo, Path) and demo.parts[-3:] == ("fantasytalking", "models", "embedded")


@pytest.mark.parametrize("name", ["nothing", "./no/such/folder", "a/b/c", "../x"])
def test_a_name_that_leads_nowhere_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="There is no model"):
        resolve_model(name)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        resolve_model(str(tmp_path / "model.safetensors"))


def test_a_folder_without_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model_index\.json"):
        FantasyTalkingPipeline.from_pretrained(tmp_path)


def test_a_broken_index_is_refused(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not valid JSON"):
        FantasyTalkingPipeline.from_pretrained(folder)


def test_a_plain_wan_model_is_refused_with_the_way_out(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "WanImageToVideoPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="WanTransformer3DModel, not FantasyTalking; put the adapter on it"):
        FantasyTalkingPipeline.from_pretrained(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "scheduler").rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match="lacks the part 'scheduler/'"):
        FantasyTalkingPipeline.from_pretrained(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    pipeline = FantasyTalkingPipeline.from_pretrained(folder)
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="50KB")
    shards = sorted((folder / "transformer").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    FantasyTalkingPipeline.from_pretrained(folder)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"lacks 1 of its weight files \({shards[1].name}\)"):
        FantasyTalkingPipeline.from_pretrained(folder)


def test_a_part_opens_no_file_outside_its_folder(folder: Path) -> None:
    listing = {"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(listing))
    with pytest.raises(CheckpointError, match="outside its folder"):
        FantasyTalkingPipeline.from_pretrained(folder)


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_weights_that_do_not_fit_are_refused_by_name(folder: Path, part: str, change: str) -> None:
    path = folder / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = max(tensors)
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        name = "stranger.weight"
        tensors[name] = torch.zeros(3)
    else:
        tensors[name] = torch.zeros(3, 5, 7)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=name):
        FantasyTalkingPipeline.from_pretrained(folder)


def test_a_model_of_before_expression_was_relative_to_closed_lips_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its latents would be decoded to other motion, without lids."""
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    added = ("codec.portrait_weights", "codec.opening_direction", "codec.opening_knots", "codec.pose_gain")
    before = {name: tensor for name, tensor in tensors.items() if name not in added}
    before |= {name: before[name][..., :-2].contiguous() for name in ("codec.pose_cells", "codec.pose_std")}
    save_file(before, path, metadata={"format": "pt"})
    words = ["generate", "--model", str(folder), "--image", str(EXAMPLE / "portrait.png")]
    words += ["--audio", str(EXAMPLE / "speech.wav"), "--output", str(tmp_path / "talking.mp4")]
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: The model '{folder}' was made by an earlier version")
    assert error.endswith("make it again with 'fantasytalking train embedded', or use the packaged model, embedded.")
    assert not (tmp_path / "talking.mp4").exists()


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_a_pickle_is_refused_without_being_opened(folder: Path, tmp_path: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with (folder / "transformer" / "diffusion_pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(CheckpointError, match="a format that can run code"):
        FantasyTalkingPipeline.from_pretrained(folder)
    assert not (tmp_path / "exploded").exists()


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"There is no device 'cuda:99' on this machine; use .*cpu or auto"):
        choose_device("cuda:99")
    assert choose_device("cpu").type == "cpu"


def quantised_folder(tmp_path: Path) -> tuple[Path, FantasyTalkingPipeline]:
    """A folder whose transformer is stored as torchao stores it, and a pipeline of the same shape: each matrix in three tensors."""
    pipeline = wan_pipeline()
    pipeline.save_pretrained(tmp_path)
    weights, names = {}, {"format": "pt"}
    for key, value in pipeline.transformer.state_dict().items():
        names[key] = '{"_type": "Tensor"}'
        if key.startswith("blocks.") and value.ndim == 2:
            names[key] = '{"_type": "Int8Tensor", "_tensor_data_names": ["qdata", "scale", "zero_point"]}'
            for part in ("qdata", "scale", "zero_point"):
                weights[f"{key.removesuffix('.weight')}._weight_{part}"] = torch.zeros(2, 3)
        else:
            weights[key] = value.clone()
    save_file(weights, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors", names)
    config = tmp_path / "transformer" / "config.json"
    method = {"quantization_config": {"quant_method": "torchao", "quant_type": {}}}
    config.write_text(json.dumps(json.loads(config.read_text()) | method))
    return tmp_path, pipeline


def test_the_weights_of_a_quantised_folder_are_compared_by_the_names_that_they_stand_for(tmp_path: Path) -> None:
    folder, pipeline = quantised_folder(tmp_path)
    check_weights(folder, "transformer", pipeline.transformer)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    with safe_open(str(file), "pt") as opened:
        names = opened.metadata()
    weights = load_file(file)
    weights["blocks.0.attn9.to_q._weight_qdata"] = torch.zeros(2, 3)
    del weights["proj_out.bias"], names["proj_out.bias"]
    save_file(weights, file, names)
    with pytest.raises(CheckpointError, match=r"1 missing \(proj_out.bias\), 1 unexpected \(blocks.0.attn9"):
        check_weights(folder, "transformer", pipeline.transformer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_pipeline_that_torchao_quantised_is_saved_and_loaded_again(tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    wan_pipeline().save_pretrained(tmp_path / "plain")
    transformer = FantasyTalkingTransformer3DModel.from_pretrained(
        tmp_path / "plain",
        subfolder="transformer",
        quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig()),
        dtype=torch.bfloat16,
    )
    before = FantasyTalkingPipeline.from_pretrained(tmp_path / "plain", transformer=transformer)
    before.save_pretrained(tmp_path / "quantised")
    after = FantasyTalkingPipeline.from_pretrained(tmp_path / "quantised")
    assert type(after.transformer.blocks[0].ffn.net[2].weight).__name__ == "Int8Tensor"
    outputs: list[Any] = [pipeline(portrait(), speech(0.3), output_type="latent") for pipeline in (before, after)]
    torch.testing.assert_close(outputs[0].frames, outputs[1].frames, atol=1e-5, rtol=1e-5)
