"""Whole generations at tiny width whose latents are compared: with a cache and without, passes batched and one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.pipeline.tiny_pipeline import portrait, speech

STEPS = 8

SCALES: dict[str, Any] = {"steps": STEPS, "prompt_guidance_scale": 4.0, "audio_guidance_scale": 2.5}
"""Three passes a step."""

HALF: dict[str, Any] = {**SCALES, "audio_guidance_scale": 4.0, "audio_start_percent": 25, "audio_end_percent": 75}
"""Negative and text, then negative and audio, then negative and text again."""

WINDOW: dict[str, Any] = {**SCALES, "guidance_start_percent": 25, "guidance_end_percent": 75}
"""The pass with speech alone, then three passes, then again the one."""


def latents(pipeline: FantasyTalkingPipeline, **settings: Any) -> torch.Tensor:
    """The latents after the last step."""
    seen: list[torch.Tensor] = []
    pipeline(
        portrait(),
        speech(0.4),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(tensors["latents"].clone()),
        output_type="latent",
        **{**SCALES, **settings},
    )
    return seen[-1]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, in shares of the largest latent."""
    return float((one - other).abs().max() / other.abs().max())


@contextlib.contextmanager
def counted(pipeline: FantasyTalkingPipeline, part: str = "blocks.2.ffn") -> Iterator[Callable[[], int]]:
    """How many rows went through a part of the transformer; caches skip all but the first block."""
    rows: list[int] = []
    hook = pipeline.transformer.get_submodule(part).register_forward_hook(lambda _, given, out: rows.append(len(out)))
    try:
        yield lambda: sum(rows)
    finally:
        hook.remove()
