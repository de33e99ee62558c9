"""Every plan makes the same frames, and single choices about speed reach the pipeline."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.acceleration.apply_plan import SCHEDULERS, SpeedOptions, advice_on_memory, apply_plan
from fantasytalking.acceleration.expected_peaks import expected_peaks
from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import read_sizes
from fantasytalking.checkpoints.quantised_layers import Float8Linear
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.pipeline.load_pipeline import load_pipeline
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.devices.pretended import pretended_device
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech, wan_pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "model"
    wan_pipeline().save_pretrained(path)
    return path


def frames(pipeline: FantasyTalkingPipeline, **settings: Any) -> NDArray[Any]:
    scales: dict[str, Any] = {"prompt_guidance_scale": 3.0, "audio_guidance_scale": 2.0, "seed": 5, **settings}
    return pipeline(portrait(), speech(0.4), prompt="a woman speaks", **scales).frames.astype(int)


@pytest.mark.parametrize("offload", ["none", "groups", "disk"])
def test_every_way_to_wait_gives_the_same_frames(folder: Path, offload: Any) -> None:
    expected = frames(FantasyTalkingPipeline.from_pretrained(folder))
    pipeline = load_pipeline(str(folder), "cpu", plan=MemoryPlan(dtype="float32"))
    if offload != "none":
        apply_plan(pipeline, MemoryPlan(dtype="float32", offload=offload), CPU)
    for _ in range(2):
        assert np.abs(frames(pipeline) - expected).max() <= 1


def test_whole_models_that_wait_give_the_same_frames() -> None:
    with pretended_device() as device:
        pipeline = wan_pipeline()
        apply_plan(pipeline, MemoryPlan(dtype="float32", offload="model"), device)
        assert np.abs(frames(pipeline) - frames(wan_pipeline())).mean() < 0.05
        assert pipeline.transformer.device.type == "cpu"


def test_the_embedded_kind_of_model_can_be_streamed_from_disk_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"audio_guidance_scale": 2.0, "seed": 1}
    expected = embedded_pipeline()(portrait(), speech(0.4), **settings).frames
    planned, by_blocks = embedded_pipeline(), embedded_pipeline()
    apply_plan(planned, MemoryPlan(dtype="float32", offload="groups"), CPU)
    by_blocks.enable_group_offload(
        CPU, CPU, offload_type="block_level", num_blocks_per_group=2, offload_to_disk_path=str(tmp_path)
    )
    for pipeline in (planned, by_blocks):
        assert np.array_equal(pipeline(portrait(), speech(0.4), **settings).frames, expected)


# accelerate puts parameters into its own maps, and then warns of them
@pytest.mark.filterwarnings("ignore:The following device_map keys do not match any submodules")
@pytest.mark.parametrize("make", [wan_pipeline, embedded_pipeline], ids=["wan", "embedded"])
def test_a_device_map_lets_parts_wait_on_disk(make: Any, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "model")
    options: dict[str, Any] = {
        "device_map": "auto",
        "max_memory": {"cpu": 200_000},
        "offload_folder": tmp_path / "disk",
    }
    transformer = FantasyTalkingTransformer3DModel.from_pretrained(tmp_path / "model" / "transformer", **options)
    assert "disk" in transformer.hf_device_map.values()
    pipeline = FantasyTalkingPipeline.from_pretrained(tmp_path / "model", transformer=transformer)
    settings: dict[str, Any] = {"audio_guidance_scale": 2.0, "seed": 1}
    expected = make()(portrait(), speech(0.4), **settings).frames
    assert np.array_equal(pipeline(portrait(), speech(0.4), **settings).frames, expected)


def test_a_plan_reaches_types_and_tiles(folder: Path) -> None:
    plan = MemoryPlan(dtype="bfloat16", quantize="fp8", vae_tiling=True)
    pipeline = load_pipeline(str(folder), "cpu", plan=plan)
    assert isinstance(pipeline.transformer.blocks[0].ffn.net[2], Float8Linear)
    assert pipeline.text_encoder.dtype == torch.bfloat16 and pipeline.image_encoder.dtype == torch.float32
    assert pipeline.vae.use_tiling and np.isfinite(frames(pipeline)).all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_samples(folder: Path, name: str) -> None:
    pipeline = load_pipeline(str(folder), "cpu", plan=MemoryPlan(dtype="float32"), speed=SpeedOptions(scheduler=name))
    assert type(pipeline.scheduler).__name__ == SCHEDULERS[name][0]
    assert np.isfinite(frames(pipeline, steps=3)).all()


def test_an_attention_back_end_that_cannot_be_used_is_told(folder: Path) -> None:
    for name in ("xformers", "_native_cudnn"):
        # before the model is looked for
        with pytest.raises(SettingsError, match=f"The attention back-end '{name}' cannot be used on cpu in float32 "):
            load_pipeline("gone", "cpu", speed=SpeedOptions(attention=name))
    with pytest.raises(SettingsError, match="There is no attention back-end 'sge'; did you mean 'sage'"):
        load_pipeline("gone", "cpu", speed=SpeedOptions(attention="sge"))
    pipeline = load_pipeline(str(folder), "cpu", speed=SpeedOptions(attention="native"))
    assert pipeline.transformer.blocks[0].attn2.processor._attention_backend == "native"


def test_a_lora_is_put_on_with_its_weight_under_every_plan(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    trained = wan_pipeline()
    trained.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    for name, weight in trained.transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    layers = peft.get_peft_model_state_dict(trained.transformer)
    FantasyTalkingPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    plan = MemoryPlan(dtype="float32")
    made = {}
    for weight in (0.0, 0.5, 1.0):
        speed = SpeedOptions(loras=((file, weight),))
        made[weight] = frames(load_pipeline(str(folder), "cpu", plan=plan, speed=speed))
    assert np.array_equal(made[0.0], frames(FantasyTalkingPipeline.from_pretrained(folder)))
    assert np.abs(made[1.0] - made[0.0]).mean() > np.abs(made[0.5] - made[0.0]).mean() > 0.1
    streamed = load_pipeline(str(folder), "cpu", plan=plan, speed=SpeedOptions(loras=((file, 1.0),)))
    apply_plan(streamed, MemoryPlan(dtype="float32", offload="groups"), CPU)
    assert np.array_equal(frames(streamed), made[1.0])
    stored = MemoryPlan(dtype="float32", quantize="fp8")
    small = {
        weight: frames(load_pipeline(str(folder), "cpu", plan=stored, speed=SpeedOptions(loras=((file, weight),))))
        for weight in (0.0, 1.0)
    }
    # In a tiny random model the rounding is half of what the LoRA changes.
    assert np.abs(small[1.0] - made[1.0]).mean() < 0.75 * np.abs(small[1.0] - small[0.0]).mean()


def test_a_lora_takes_the_memory_that_a_plan_counts_for_it(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    trained = wan_pipeline()
    trained.transformer.add_adapter(peft.LoraConfig(r=64, target_modules=["to_q", "to_v"]))
    layers = peft.get_peft_model_state_dict(trained.transformer)
    FantasyTalkingPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    plain, sizes = read_sizes(folder), read_sizes(folder, loras=[file])
    for dtype in ("float32", "bfloat16"):
        plan = MemoryPlan(dtype=dtype)  # type: ignore[arg-type]
        loaded = load_pipeline(str(folder), "cpu", plan=plan, speed=SpeedOptions(loras=((file, 1.0),)))
        weights = [weight for name, weight in loaded.transformer.named_parameters() if "lora_" in name]
        held = sum(weight.numel() * weight.element_size() for weight in weights)
        assert held == sizes.parts["lora"].bytes_in(plan.torch_dtype) > 0
        for offload in ("none", "model", "groups", "disk"):
            by = dataclasses.replace(plan, offload=offload)  # type: ignore[arg-type]
            with_lora, without = (expected_peaks(one, by, Clip(9, 64, 64)) for one in (sizes, plain))
            # The tiny model has two blocks, so both are there.
            more = with_lora.device["sampling"] - without.device["sampling"]
            assert more == pytest.approx(held, abs=4)
            assert offload == "none" or with_lora.host - without.host == held


def test_a_lora_that_is_missing_or_fits_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"something.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    for name, text in (("none.safetensors", "There is no LoRA file"), ("other.safetensors", "other.safetensors'")):
        with pytest.raises(CheckpointError, match=text):
            load_pipeline(str(folder), "cpu", speed=SpeedOptions(loras=((tmp_path / name, 1.0),)))


def test_advice_on_memory_fits_what_has_been_done_already() -> None:
    pipeline = wan_pipeline()
    assert "--memory balanced or low" in advice_on_memory(pipeline)
    with pretended_device() as device:
        pipeline.enable_model_cpu_offload(device=device)
        assert "--memory low" in advice_on_memory(pipeline) and "balanced" not in advice_on_memory(pipeline)
    pipeline = wan_pipeline()
    apply_plan(pipeline, MemoryPlan(offload="groups"), CPU)
    assert "--vae-tiling on" in advice_on_memory(pipeline) and "--memory" not in advice_on_memory(pipeline)
