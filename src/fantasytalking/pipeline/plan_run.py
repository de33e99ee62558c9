"""What a memory plan has to know of a run: the clip that is generated, its passes, the type that a device computes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fantasytalking.acceleration.memory_plan import Clip
from fantasytalking.geometry import fit_size, released_frame_count
from fantasytalking.guidance import GuidancePlan
from fantasytalking.pipeline.early_inputs import read_demands
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["clip_of", "count_passes", "dtype_name", "longest_clip"]


def dtype_name(given: str, device: torch.device) -> str:
    """Type of transformer and text encoder: what is given, or for `auto` bfloat16 on an accelerator and float32 on a CPU."""
    return {"auto": "float32" if device.type == "cpu" else "bfloat16"}.get(given, given)


def longest_clip(folder: Path, given: Mapping[str, Any] | None = None) -> Clip:
    """The largest clip that settings allow of a model folder: its longest, square, with the longest side that there is.

    Args:
        folder: The model folder.
        given: Settings of the call by name.
    """
    demands = read_demands(folder, given or {})
    rules, settings = (ModelRules(), GenerationSettings()) if demands is None else (demands.rules, demands.settings)
    side = settings.longest_side or rules.longest_side or 1024
    width, height = (side, side) if rules.own_size else fit_size(side, side, side)
    frames = rules.max_frames
    if settings.max_seconds is not None:
        frames = released_frame_count(settings.max_seconds, settings.fps or rules.native_fps, frames)
    return Clip(frames, height, width, max(count_passes(settings)))


def clip_of(folder: Path, given: Mapping[str, Any], portrait: Any, speech: Any) -> Clip:
    """The clip that a portrait and speech make; as far as they are not read yet, the largest that settings allow."""
    largest = longest_clip(folder, given)
    changes: dict[str, int] = {}
    if isinstance(portrait, Portrait):
        changes |= {"height": portrait.pixels.shape[0], "width": portrait.pixels.shape[1]}
    if isinstance(speech, Speech):
        # A longer video is sampled in stretches of that length.
        changes["frames"] = min(speech.num_frames, largest.frames)
    return dataclasses.replace(largest, **changes)


def count_passes(settings: GenerationSettings, has_prompt: bool = True) -> list[int]:
    """Network passes of each step.

    Args:
        settings: Uses the steps, the scales, the percentages and the prompts.
        has_prompt: Whether the model has a text encoder; without it the negative prompt is the prompt.
    """
    plan = GuidancePlan(
        prompt_scale=settings.prompt_guidance_scale,
        audio_scale=settings.audio_guidance_scale,
        audio_start_percent=settings.audio_start_percent,
        audio_end_percent=settings.audio_end_percent,
        has_audio=settings.audio_scale > 0,
        has_negative=has_prompt and settings.negative_prompt != settings.prompt,
    )
    return [len(plan.passes(step, settings.steps)) for step in range(settings.steps)]
