"""Another backbone (--transformer) within a plan: it is sized by its header, and loaded as the plan says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fantasytalking.acceleration.apply_plan import apply_plan
from fantasytalking.acceleration.memory_plan import MemoryPlan
from fantasytalking.acceleration.part_sizes import read_sizes
from fantasytalking.checkpoints import load_backbone
from fantasytalking.checkpoints.quantised_layers import Float8Linear, quantised_layers
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.load_pipeline import load_pipeline
from tests.checkpoints.backbone_files import WRITERS, suffix, write_scaled_fp8, write_single
from tests.devices.pretended import pretended_device
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline

WIDE = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "added_kv_proj_dim": 32}


@pytest.fixture(scope="module")
def model() -> Any:
    return transformer(**WIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("backbones") / "model"
    wan_pipeline(transformer=transformer(**WIDE)).save_pretrained(place)
    return place


def frames(pipeline: Any) -> Any:
    return pipeline(portrait(), speech(0.3), seed=1).frames.astype(int)


@pytest.mark.parametrize("layout", ["single", "fp8", "scaled", "gguf"])
def test_a_backbone_is_sized_as_it_is_loaded(model: Any, folder: Path, tmp_path: Path, layout: str) -> None:
    if layout == "gguf":
        pytest.importorskip("gguf", reason="the package gguf is not installed")
    file = WRITERS[layout](model, tmp_path / f"wan{suffix(layout)}")
    size = read_sizes(folder, file).transformer
    loaded = load_backbone(file, folder, torch.bfloat16)
    held = sum(weight.numel() * weight.element_size() for weight in loaded.parameters())
    assert size.bytes_in(torch.bfloat16) == pytest.approx(held, rel=0.01)
    assert (size.kept > 0) == (layout != "single") == bool(quantised_layers(loaded))
    stored = load_backbone(file, folder, torch.float8_e4m3fn)
    held = sum(weight.numel() * weight.element_size() for weight in stored.parameters())
    assert size.bytes_in(torch.bfloat16, quantised=True) == pytest.approx(held, rel=0.01)


def test_the_plan_of_another_backbone_is_shown_and_followed(
    model: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = write_single(model, tmp_path / "single.safetensors")
    small = write_scaled_fp8(model, tmp_path / "small.safetensors")
    host = {}
    for name, file in (("single", single), ("small", small)):
        words = ["--model", str(folder), "--transformer", str(file), "--device-memory", "24", "--memory", "balanced"]
        assert main(["info", "--plan", *words, "--json"]) == 0
        host[name] = json.loads(capsys.readouterr().out)["plan"]
    assert host["single"]["offload"] == host["small"]["offload"] == "model"
    assert main(["info", "--plan", "--model", str(folder), "--transformer", "nowhere.gguf"]) == 2
    assert "no weights at --transformer nowhere.gguf" in capsys.readouterr().err
    Image.fromarray(portrait()).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 10, 25, speech(0.4))
    words = ["generate", "--model", str(folder), "--image", str(tmp_path / "face.png"), "--device", "cpu"]
    words += ["--audio", str(tmp_path / "voice.mp4"), "--steps", "1", "--transformer", str(single)]
    for more in (["--memory", "minimal"], ["--quantize", "fp8", "--dtype", "bfloat16"]):
        target = tmp_path / f"{more[0]}.mp4"
        assert main([*words, "--output", str(target), *more]) == 0, capsys.readouterr().err
        assert target.is_file()


def test_a_plan_stores_a_plain_backbone_in_fp8(model: Any, folder: Path, tmp_path: Path) -> None:
    file = write_single(model, tmp_path / "wan.safetensors")
    plan = MemoryPlan(dtype="bfloat16", quantize="fp8", offload="none")
    pipeline = load_pipeline(str(folder), "cpu", plan=plan, transformer=file)
    assert isinstance(pipeline.transformer.blocks[0].ffn.net[2], Float8Linear) and np.isfinite(frames(pipeline)).all()


@pytest.mark.parametrize("offload", ["none", "model", "groups", "disk"])
def test_kept_weights_wait_wherever_a_plan_lets_them_wait(
    model: Any, folder: Path, tmp_path: Path, offload: Any
) -> None:
    file = write_scaled_fp8(model, tmp_path / "wan.safetensors")
    expected = frames(load_pipeline(str(folder), "cpu", transformer=file))
    with pretended_device() as device:
        pipeline = load_pipeline(str(folder), "cpu", plan=MemoryPlan(dtype="float32"), transformer=file)
        # diffusers' groups put data into parameters, which the pretended device does not know
        place = torch.device("cpu") if offload in ("groups", "disk") else device
        apply_plan(pipeline, MemoryPlan(dtype="float32", offload=offload), place)
        for _ in range(2):
            assert np.abs(frames(pipeline) - expected).mean() < 0.05


def test_what_cannot_be_combined_is_told(folder: Path, tmp_path: Path) -> None:
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    (quantised / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "torchao"}}))
    with pytest.raises(SettingsError, match="is quantised by torchao already, and cannot be stored in fp8 besides"):
        load_backbone(quantised, folder, torch.float8_e4m3fn)
    with pytest.raises(CheckpointError, match="'someone/model' is on the hub; download it first"):
        load_pipeline("someone/model", "cpu", transformer=quantised)
