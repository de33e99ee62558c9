"""What a memory plan has to know of a run: the clip that is generated, its passes, the type that a device computes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.geometry import AUDIO_TOKEN_RATE, fit_size, released_frame_count
from fantasytalking.pipeline.early_inputs import read_demands
from fantasytalking.pipeline.guidance_passes import plan_of
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.settings import DECIDING_BY_PASS, GenerationSettings

__all__ = [
    "clip_of",
    "count_passes",
    "dtype_name",
    "longest_clip",
    "overrides_of_settings",
    "settings_by_plan",
    "settings_of",
]

FOLLOWED = ("batch_passes", "reuse_conditions")
"""Settings that a plan decides where they are `auto`; they are fields of `MemoryPlan` too."""


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
    passes = max(count_passes(settings))
    return Clip(frames, height, width, passes, settings.fps or rules.native_fps, _features(frames, rules))


def clip_of(folder: Path, given: Mapping[str, Any], portrait: Any, speech: Any) -> Clip:
    """The clip that a portrait and speech make; as far as they are not read yet, the largest that settings allow."""
    demands = read_demands(folder, given)
    largest = longest_clip(folder, given)
    changes: dict[str, int] = {}
    speakers = len(speech) if isinstance(speech, Mapping) else 1
    portrait, speech = (next(iter(one.values())) if isinstance(one, Mapping) else one for one in (portrait, speech))
    if isinstance(portrait, Portrait):
        changes |= {"height": portrait.pixels.shape[0], "width": portrait.pixels.shape[1]}
    if isinstance(speech, Speech):
        rules = ModelRules() if demands is None else demands.rules
        # A longer video is sampled in stretches of that length.
        frames = min(speech.num_frames, largest.frames)
        changes |= {"frames": frames, "audio_tokens": _features(frames, rules) * speakers}
    return dataclasses.replace(largest, **changes)


def _features(frames: int, rules: ModelRules) -> int:
    """Speech features of a clip: as many as the same number of frames would have at the model's own rate."""
    return max(1, round(frames / rules.native_fps * AUDIO_TOKEN_RATE))


def settings_of(folder: Path, given: Mapping[str, Any]) -> GenerationSettings:
    """Settings of a call of a model folder: its defaults, replaced by what is given."""
    demands = read_demands(folder, given)
    return GenerationSettings.create(given) if demands is None else demands.settings


def overrides_of_settings(settings: GenerationSettings) -> dict[str, Any]:
    """Fields of a memory plan that the settings of a call decide: the step cache, and what is not left to memory."""
    given: dict[str, Any] = {"cache": settings.cache}
    for name in FOLLOWED:
        if getattr(settings, name) != "auto":
            given[name] = getattr(settings, name)
    return given


def settings_by_plan(plan: MemoryPlan) -> dict[str, Any]:
    """Settings by which a call follows a plan, by name."""
    # A cache that decides for each pass has no batches, and says so where they are asked for.
    batched = plan.cache not in DECIDING_BY_PASS
    return {
        "cache": plan.cache,
        **{name: getattr(plan, name) for name in FOLLOWED if batched or name != "batch_passes"},
    }


def count_passes(settings: GenerationSettings, has_prompt: bool = True) -> list[int]:
    """Network passes of each step.

    Args:
        settings: Uses the steps, the scales, the percentages and the prompts.
        has_prompt: Whether the model has a text encoder; without it the negative prompt is the prompt.
    """
    plan = plan_of(settings, True, has_prompt and settings.negative_prompt != settings.prompt)
    return [len(plan.passes(step, settings.steps)) for step in range(settings.steps)]
