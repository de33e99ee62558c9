"""Backbones as they circulate, beside a model folder whose adapter is laid on top, through the pipeline and the command line."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import TorchAoConfig, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file, save_file

from fantasytalking import FantasyTalkingPipeline, FantasyTalkingTransformer3DModel
from fantasytalking.checkpoints import load_backbone, load_transformer
from fantasytalking.checkpoints.adapter_layouts import save_adapter
from fantasytalking.checkpoints.quantised_layers import Float8Linear, quantised_layers
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, MissingDependencyError, SettingsError
from fantasytalking.media.video import read_frames, write_video
from fantasytalking.pipeline.load_pipeline import load_pipeline
from tests.checkpoints.backbone_files import WRITERS, suffix, write_fp8, write_gguf, write_scaled_fp8, write_single
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline

WIDE = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "added_kv_proj_dim": 32}
"""Widths that are multiples of 32, the length of a GGUF block."""
BOUNDS = {"single": 1e-5, "fp8": 0.4, "scaled": 0.4, "scaled-new": 0.4, "gguf": 0.05, "gguf-flat": 0.05}
"""Largest difference of the latents, which reach 9.8, from those of the plain weights."""


@pytest.fixture(scope="module")
def model() -> FantasyTalkingTransformer3DModel:
    return transformer(**WIDE)


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose backbone is another one, but whose adapter is that of `model`."""
    place = tmp_path_factory.mktemp("model")
    other = transformer(**WIDE)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "audio" not in name:
                parameter.mul_(0.5)
    wan_pipeline(transformer=other).save_pretrained(place)
    return place


def latents(pipeline: Any) -> torch.Tensor:
    frames: torch.Tensor = pipeline(portrait(), speech(0.3), output_type="latent").frames
    return frames


@pytest.mark.parametrize("layout", WRITERS)
def test_a_backbone_of_any_layout_makes_the_video_of_its_plain_weights(
    model: Any, folder: Path, tmp_path: Path, layout: str
) -> None:
    if layout.startswith("gguf"):
        pytest.importorskip("gguf", reason="the package gguf is not installed")
    file = WRITERS[layout](model, tmp_path / f"wan{suffix(layout)}")
    expected = latents(wan_pipeline(transformer=model))
    pipeline = load_pipeline(str(folder), "cpu", transformer=file)
    made = latents(pipeline)
    assert (made - expected).abs().max() < BOUNDS[layout]
    # The folder's own backbone makes another video.
    assert (latents(load_pipeline(str(folder), "cpu")) - expected).abs().max() > 1
    kept = quantised_layers(pipeline.transformer)
    assert len(kept) == (0 if layout == "single" else 24) and not any("processor" in name for name in kept)
    plain = load_backbone(file, folder, torch.float32, quantised="expand")
    assert not quantised_layers(plain) and {value.dtype for value in plain.parameters()} == {torch.float32}
    torch.testing.assert_close(latents(wan_pipeline(transformer=plain)), made, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["single", "fp8", "scaled", "gguf"])
def test_diffusers_way_of_loading_a_single_file_works(model: Any, folder: Path, tmp_path: Path, layout: str) -> None:
    quantisation: Any = None
    if layout == "gguf":
        pytest.importorskip("gguf", reason="the package gguf is not installed")
        from diffusers import GGUFQuantizationConfig

        quantisation = GGUFQuantizationConfig(compute_dtype=torch.float32)
    file = WRITERS[layout](model, tmp_path / f"wan{suffix(layout)}")
    load = FantasyTalkingTransformer3DModel.from_single_file
    given = {"config": folder, "subfolder": "transformer", "quantization_config": quantisation}
    made = load(file, adapter=folder, torch_dtype=torch.float32, **given)
    pipeline = FantasyTalkingPipeline.from_pretrained(folder, transformer=made)
    assert (latents(pipeline) - latents(wan_pipeline(transformer=model))).abs().max() < BOUNDS[layout]
    assert bool(quantised_layers(made)) == (layout == "gguf")
    with pytest.raises(SettingsError, match="cannot be quantised by TorchAoConfig"):
        load(file, quantization_config=TorchAoConfig.__new__(TorchAoConfig))


def test_weights_are_stored_in_8_bit_floats_where_these_are_asked_for(model: Any, folder: Path) -> None:
    model.save_pretrained(folder / "plain")
    stored = load_transformer(folder / "plain", torch.float8_e4m3fn)
    layer = stored.blocks[0].ffn.net[2]
    assert isinstance(layer, Float8Linear) and layer.weight.element_size() == 1
    assert (
        stored.dtype == torch.bfloat16 and stored.blocks[0].attn2.processor.audio_k_proj.weight.dtype == torch.bfloat16
    )
    made = latents(wan_pipeline(transformer=stored))
    assert (made - latents(wan_pipeline(transformer=model))).abs().max() < 0.5


@pytest.mark.parametrize("layout", ["scaled", "gguf"])
def test_kept_weights_go_with_offload_lora_and_compilation(
    model: Any, folder: Path, tmp_path: Path, layout: str
) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    if layout == "gguf":
        pytest.importorskip("gguf", reason="the package gguf is not installed")
    file = WRITERS[layout](model, tmp_path / f"wan{suffix(layout)}")
    plain, grouped, low_rank, compiled = (load_backbone(file, folder, torch.float32) for _ in range(4))
    expected, cpu = latents(wan_pipeline(transformer=plain)), torch.device("cpu")
    grouped.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    low_rank.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    if layout == "scaled":  # diffusers' own layer of the other layout compiles as it does there
        compiled.compile_repeated_blocks(backend="eager", fullgraph=True)
    for changed in (grouped, low_rank, compiled):
        torch.testing.assert_close(latents(wan_pipeline(transformer=changed)), expected, atol=1e-5, rtol=1e-5)
    for name, parameter in low_rank.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(latents(wan_pipeline(transformer=low_rank)), expected, atol=1e-2)
    narrow = plain.to(torch.bfloat16)
    assert len(quantised_layers(narrow)) == 24 and narrow.blocks[0].ffn.net[2].weight.element_size() == 1


def test_a_model_folder_never_gets_layers_that_no_loader_knows(model: Any, folder: Path, tmp_path: Path) -> None:
    file = write_scaled_fp8(model, tmp_path / "wan.safetensors")
    pipeline = load_pipeline(str(folder), "cpu", transformer=file)
    with pytest.raises(CheckpointError, match=r"24 layers of the .* a model folder cannot hold; load it with"):
        pipeline.save_pretrained(tmp_path / "saved")


def test_the_command_line_takes_another_transformer_and_another_adapter(
    model: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(portrait()).save(tmp_path / "portrait.png")
    write_video(tmp_path / "speech.mp4", [portrait(64)] * 20, 20, speech(1.0))
    single = write_single(model, tmp_path / "wan.safetensors")
    deaf = transformer(**WIDE)
    with torch.no_grad():
        for block in deaf.blocks:
            block.attn2.processor.audio_v_proj.weight.zero_()
    adapter = save_adapter(deaf, tmp_path / "adapter.ckpt", "released")
    words = ["generate", "--image", str(tmp_path / "portrait.png"), "--audio", str(tmp_path / "speech.mp4")]
    words += ["--model", str(folder), "--max-seconds", "0.3", "--device", "cpu"]
    videos = {}
    for name, more in (
        ("own", []),
        ("file", ["--transformer", str(single)]),
        ("both", ["--transformer", str(single), "--adapter", str(adapter)]),
    ):
        target = tmp_path / f"{name}.mp4"
        assert main([*words, "--output", str(target), *more]) == 0
        videos[name] = read_frames(target)[0].astype(int)
    assert abs(videos["own"] - videos["file"]).mean() > 1 and abs(videos["file"] - videos["both"]).mean() > 0.1
    capsys.readouterr()
    for more, said in (
        (["--transformer", "nowhere.gguf"], "no weights at --transformer nowhere.gguf"),
        (["--adapter", str(adapter)], "--adapter goes with --transformer"),
    ):
        assert main([*words, "--output", str(tmp_path / "none.mp4"), *more]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["fp8", "scaled", "scaled-new", "gguf"])
def test_convert_expands_a_quantised_backbone(
    model: Any, folder: Path, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if layout == "gguf":
        pytest.importorskip("gguf", reason="the package gguf is not installed")
    file = WRITERS[layout](model, tmp_path / f"wan{suffix(layout)}")
    (tmp_path / "sizes.json").write_text(json.dumps({"image_encoder": {"num_attention_heads": 2}}))
    target = tmp_path / "made"
    words = ["convert", str(folder), str(target), "--layout", "pipeline", "--transformer", str(file)]
    assert main([*words, "--dtype", "float32", "--config", str(tmp_path / "sizes.json")]) == 0, capsys.readouterr().err
    made = FantasyTalkingTransformer3DModel.from_pretrained(target, subfolder="transformer").state_dict()
    plain = load_backbone(file, folder, torch.float32, quantised="expand").state_dict()
    assert made.keys() == plain.keys() and all(torch.equal(value, made[key]) for key, value in plain.items())
    assert main(["convert", str(file), str(tmp_path / "none"), "--layout", "pipeline"]) == 2
    assert f"and --transformer {file}" in capsys.readouterr().err


def test_unknown_and_missing_keys_of_a_backbone_are_named(model: Any, folder: Path, tmp_path: Path) -> None:
    file = write_scaled_fp8(model, tmp_path / "wan.safetensors")
    weights = load_file(file)
    weights["blocks.0.self_attn.qq.weight"] = torch.zeros(2, 2)
    weights["blocks.9.self_attn.qq.scale_weight"] = torch.ones(())
    del weights["blocks.1.ffn.0.bias"]
    save_file(weights, file)
    with pytest.raises(CheckpointError) as raised:
        load_backbone(file, folder)
    said = str(raised.value)
    assert "1 missing (blocks.1.ffn.net.0.proj.bias)" in said and "2 unexpected (blocks.0.self_attn.qq.weight" in said
    assert "blocks.9.self_attn.qq.scale_weight" in said


def test_scales_of_another_kind_are_refused(model: Any, folder: Path, tmp_path: Path) -> None:
    file = write_scaled_fp8(model, tmp_path / "wan.safetensors", new=True)
    weights = load_file(file)
    key = "blocks.0.ffn.0.weight"
    for changed, said in (
        ({key: torch.zeros(64, 32, dtype=torch.int8)}, f"{key} has a scale and is stored as int8"),
        ({f"{key}_scale": torch.ones(7, 1)}, f"{key} has 7 scales, but one or 64"),
    ):
        save_file({**weights, **changed}, file)
        with pytest.raises(CheckpointError, match=re.escape(said)):
            load_backbone(file, folder)


def test_a_damaged_gguf_file_and_a_missing_package_are_told(
    model: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "wan.gguf"
    file.write_bytes(b"GGUF rubbish")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gguf", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'fantasytalking\[gguf\]'"):
            load_backbone(file, folder)
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    with pytest.raises(CheckpointError, match="cannot be read as GGUF"):
        load_backbone(file, folder)
    write_gguf(model, file)
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match="cannot be read as GGUF"):
        load_backbone(file, folder)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_1", "Q8_0", "BF16"])
def test_every_type_of_gguf_that_diffusers_reads_is_read(model: Any, folder: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    file = write_gguf(model, tmp_path / "wan.gguf", kind)
    pipeline = wan_pipeline(transformer=load_backbone(file, folder, torch.float32))
    assert (latents(pipeline) - latents(wan_pipeline(transformer=model))).abs().max() < 2


def test_weights_that_torchao_quantised_are_not_converted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "transformer", tmp_path / "quantised")
    config = tmp_path / "quantised" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"quant_method": "torchao"}}))
    words = ["convert", str(folder), str(tmp_path / "made"), "--layout", "pipeline"]
    assert main([*words, "--transformer", str(config.parent)]) == 2
    assert "is quantised by torchao, which only diffusers' own loading reads" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="is quantised by torchao and cannot be expanded"):
        load_backbone(config.parent, folder, quantised="expand")


def test_the_backbone_of_another_size_is_refused_with_its_shapes(folder: Path, tmp_path: Path) -> None:
    file = write_fp8(transformer(**{**WIDE, "ffn_dim": 96}), tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks.0.ffn.net.0.proj.weight is \[96, 32\] and must be \[64, 32\]"):
        load_backbone(file, folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_backbone_that_torchao_quantised_gets_the_adapter(model: Any, folder: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    plain = WanTransformer3DModel.from_config(
        {
            key: value
            for key, value in model.plain_config().items()
            if not key.startswith(("audio_", "identity_", "motion"))
        }
    )
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "audio" not in key})
    plain.save_pretrained(tmp_path / "plain")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    quantised = WanTransformer3DModel.from_pretrained(
        tmp_path / "plain", quantization_config=config, dtype=torch.bfloat16
    )
    quantised.save_pretrained(tmp_path / "quantised")
    pipeline = load_pipeline(str(folder), "cpu", "bfloat16", transformer=tmp_path / "quantised")
    assert type(pipeline.transformer.blocks[0].ffn.net[2].weight).__name__ == "Int8Tensor"
    assert (latents(pipeline) - latents(wan_pipeline(transformer=model))).abs().max() < 0.5
