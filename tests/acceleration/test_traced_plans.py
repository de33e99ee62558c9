"""Whole runs of the released shapes through the pipeline, traced: what a device would hold is what a plan expects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import CLIPImageProcessor, Wav2Vec2FeatureExtractor

from fantasytalking.acceleration.apply_plan import apply_plan
from fantasytalking.acceleration.expected_peaks import BLOCKS_AT_ONCE, VIDEO_COPIES, expected_peaks
from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import ModelSizes, sizes_of_modules
from fantasytalking.acceleration.resolve_plan import Machine, resolve_plan
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.plan_run import settings_by_plan
from fantasytalking.pipeline.progress import Progress
from tests.acceleration.placed_tensors import Residence, placed
from tests.acceleration.released_shapes import released_modules, released_sizes
from tests.devices.pretended import pretended_device
from tests.pipeline.tiny_pipeline import portrait, scheduler, speech, tokenizer, wan_vae

PHASES = {"encoding": ("text", "image and speech", "condition"), "sampling": ("sampling",), "decoding": ("decoding",)}
BLOCK = 861_204_480
"""Bytes of a block of the released transformer in bfloat16."""


class Phases(Progress):
    """Tells a trace which phase is running."""

    def __init__(self, trace: Residence) -> None:
        super().__init__()
        self.trace = trace

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Any]:
        self.trace.phase = name
        yield lambda steps=1: None

    def show_note(self, text: str) -> None:
        pass


@pytest.fixture(autouse=True)
def _fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as a device computes it, without the matrix of all pairs."""
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda query, *_, **__: torch.empty_like(query)
    )


def traced(
    plan: MemoryPlan, clip: Clip, blocks: int = 40, small_vae: bool = False, **settings: Any
) -> tuple[dict[str, int], ModelSizes]:
    """Most bytes on the device in each phase of generating a clip with a step of two passes, and the sizes of the model.

    Args:
        plan: The plan.
        clip: The clip.
        blocks: Blocks of the transformer.
        small_vae: Whether a VAE of a few channels stands in for Wan's, for a trace of sampling alone.
        settings: Settings of the call.
    """
    modules = released_modules(num_layers=blocks)
    if small_vae:
        modules["vae"] = wan_vae().to("meta")
    sizes = sizes_of_modules(modules, torch.bfloat16)
    large = ("transformer", "text_encoder")
    parts: dict[str, Any] = {
        name: placed(module, torch.bfloat16 if name in large else torch.float32) for name, module in modules.items()
    }
    pipeline = FantasyTalkingPipeline(
        **parts,
        scheduler=scheduler(),
        tokenizer=tokenizer(),
        image_processor=CLIPImageProcessor(size={"height": 224, "width": 224}, do_center_crop=False),
        audio_processor=Wav2Vec2FeatureExtractor(),
        longest_side=max(clip.width, clip.height),
    )
    picture = portrait(64).repeat(-(-clip.height // 64), 0).repeat(-(-clip.width // 64), 1)[: clip.height, : clip.width]
    with pretended_device() as device, Residence() as trace, torch.no_grad():
        torch.__future__.set_swap_module_params_on_conversion(False)
        apply_plan(pipeline, plan, device)
        pipeline(
            picture,
            speech((clip.frames - 2) / clip.fps),
            progress=Phases(trace),
            **{"steps": 1, **settings_by_plan(plan), **settings},
        )
    return trace.peaks, sizes


CHOICES: dict[str, dict[str, Any]] = {
    "high": {},
    "balanced": {"offload": "model"},
    "low": {"offload": "groups"},
    "low, apart": {"offload": "groups", "batch_passes": "off"},
    "minimal": {"offload": "disk", "batch_passes": "off", "vae_tiling": True, "reuse_conditions": "off"},
}


def on_device(found: dict[str, int], plan: MemoryPlan) -> dict[str, int]:
    """What a trace found, with the blocks that a device's stream brings ahead: without a stream there is one at a time."""
    ahead = (BLOCKS_AT_ONCE - 1) * BLOCK if plan.offload in ("groups", "disk") else 0
    return {**found, "sampling": found["sampling"] + ahead}


@pytest.mark.parametrize("name", CHOICES)
def test_a_run_by_each_plan_holds_what_is_expected_and_never_more(name: str) -> None:
    plan, clip = MemoryPlan(**CHOICES[name]), Clip(13, 384, 384, 2, audio_tokens=28)
    found, sizes = traced(plan, clip, blocks=4)
    expected = expected_peaks(sizes, plan, clip)
    there = on_device(found, plan)
    assert 0.85 * expected.device_peak < max(there.values()) <= expected.device_peak
    # Whole models that wait are sent back by the next one's first call.
    stages = ("encoding", "sampling") if plan.offload == "model" else PHASES
    for stage in stages:
        assert there[stage] <= max(expected.device[phase] for phase in PHASES[stage]), stage


@pytest.mark.slow  # every tile twice; 6 seconds
def test_frames_more_or_less_change_tiled_coding_by_copies_of_the_video_alone() -> None:
    plan = MemoryPlan(**CHOICES["minimal"])
    short, long = (traced(plan, Clip(frames, 272, 272, 2), blocks=1)[0] for frames in (9, 17))
    video = 8 * 272 * 272 * 3 * 4
    for stage in ("encoding", "decoding"):
        assert long[stage] - short[stage] <= VIDEO_COPIES * video


@pytest.mark.slow  # twice 40 blocks; 10 seconds
@pytest.mark.parametrize("clip", [Clip(81, 512, 512, 2), Clip(81, 720, 1280, 2)])
def test_the_plan_for_24_gb_never_holds_more_than_22_gib(clip: Clip) -> None:
    machine = Machine("cuda", 24 * GIB, 64 * GIB)
    plan = resolve_plan(sizes_of_modules(released_modules(), torch.bfloat16), clip, machine).plan
    found, _ = traced(dataclasses.replace(plan, vae_tiling=False), clip, small_vae=plan.vae_tiling)
    there = on_device(found, plan)
    # Tiles are those of the tests above, whatever the size; the copies of the video are added to them.
    expected = expected_peaks(released_sizes(), plan, clip)
    assert max(there.values()) <= min(22 * GIB, expected.device_peak)
    if plan.vae_tiling:
        vae = released_sizes().parts["vae"].bytes_in(torch.float32)
        assert there["sampling"] + vae <= expected.device["sampling"] and expected.device_peak <= 22 * GIB
