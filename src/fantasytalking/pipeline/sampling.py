"""From noise to clean latents: the noise schedule, the guidance passes of each step, one at a time or as a batch.

Letters: B batch (here always 1), C channels, f latent frames, h and w latent rows and columns.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import SettingsError
from fantasytalking.guidance import GuidancePlan, Pass, branch
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["Branches", "StepHook", "denoise", "make_schedule"]

StepHook = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called after each step with its index, timestep and latents; may return other latents to go on with."""


@dataclass(frozen=True)
class Branches:
    """What the guidance passes are told.

    Attributes:
        conditions: Of the pass with prompt and speech.
        negative_text: [1, l, d] embeddings of the negative prompt; None where it does not differ from the prompt.
    """

    conditions: Conditions
    negative_text: Tensor | None = None

    def plan(self, settings: GenerationSettings) -> GuidancePlan:
        """Which passes run on which step, and with what weight."""
        audio = self.conditions.audio
        return GuidancePlan(
            prompt_scale=settings.prompt_guidance_scale,
            audio_scale=settings.audio_guidance_scale,
            audio_start_percent=settings.audio_start_percent,
            audio_end_percent=settings.audio_end_percent,
            has_audio=audio is not None and settings.audio_scale > 0,
            has_negative=self.negative_text is not None,
        )


def make_schedule(scheduler: Any, settings: GenerationSettings, device: torch.device) -> Any:
    """A fresh scheduler with its steps set; the pipeline's own stays as it is, so that no call changes the next.

    diffusers' Euler gets the released sigmas, s * shift / (1 + (shift - 1) * s) for s = linspace(1, 0, steps + 1)
    without its end. Other flow schedulers choose their own steps under the same shift.

    Raises:
        SettingsError: The scheduler does not predict velocities of flow matching.
    """
    config = scheduler.config
    is_flow = "FlowMatch" in type(scheduler).__name__ or config.get("prediction_type") == "flow_prediction"
    if not is_flow:
        raise SettingsError(
            f"The scheduler {type(scheduler).__name__} is not set up for flow matching; use a FlowMatch scheduler, "
            "or one with prediction_type='flow_prediction' and use_flow_sigmas=True."
        )
    name = "flow_shift" if "flow_shift" in config else "shift"
    fresh = type(scheduler).from_config(config, **{name: settings.sigma_shift})
    # Euler's base class gives sigmas a meaning of their own in some subclasses, hence the exact type.
    if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":
        sigmas = np.linspace(1, 0, settings.steps + 1)[:-1]
        fresh.set_timesteps(sigmas=sigmas.tolist(), device=device)
    else:
        fresh.set_timesteps(settings.steps, device=device)
    if hasattr(fresh, "set_begin_index"):
        fresh.set_begin_index(0)
    return fresh


def denoise(
    transformer: FantasyTalkingTransformer3DModel,
    scheduler: Any,
    noise: Tensor,
    given: Tensor,
    branches: Branches,
    settings: GenerationSettings,
    progress: Progress,
    on_step: StepHook | None = None,
    audio_channels: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Integrate the guided velocity from noise to data.

    Args:
        transformer: Predicts the velocity.
        scheduler: Any flow scheduler of diffusers.
        noise: [1, C, f, h, w], unit variance.
        given: [1, 4 + C, f, h, w], mask and latents of the portrait.
        branches: What the passes are told.
        settings: Steps, shift, guidance, batching, seed.
        progress: Shows the steps.
        on_step: Called after each step.
        audio_channels: [C], 1 where a guidance scale of speech above 1 acts, 0 where it counts as 1; None: it acts everywhere.
        known: [1, C, k, h, w], clean latents of the first k latent frames, where a video is continued: after each step they are
            put there at the step's noise level, with the noise they began with, so that the other frames join them.

    Returns:
        [1, C, f, h, w], float32.
    """
    plan = branches.plan(settings)
    schedule = make_schedule(scheduler, settings, noise.device)
    # Schedulers that draw noise of their own must be repeatable as well.
    draws = {"generator": torch.Generator("cpu").manual_seed(settings.seed)}
    extra = draws if "generator" in inspect.signature(schedule.step).parameters else {}
    latents, count = noise.float(), len(schedule.timesteps)
    passes = _Passes(transformer, branches, given, settings.batch_passes)
    with progress.stage("sampling", count) as advance:
        for step, timestep in enumerate(schedule.timesteps):
            velocities = passes.run(plan.passes(step, count), latents, timestep)
            velocity = plan.combine(velocities, step, count, audio_channels)
            latents = schedule.step(velocity, timestep, latents, return_dict=False, **extra)[0].float()
            if known is not None:
                latents = _with_known(latents, known.to(latents), noise.to(latents), schedule, step)
            if on_step is not None:
                changed = on_step(step, timestep, latents)
                latents = latents if changed is None else changed
            advance()
    return latents


def _with_known(latents: Tensor, known: Tensor, noise: Tensor, schedule: Any, step: int) -> Tensor:
    """The latents after a step with their first frames replaced by the known ones at that noise level."""
    sigmas = schedule.sigmas
    sigma = float(sigmas[step + 1]) if step + 1 < len(sigmas) else 0.0
    count = known.shape[2]
    return torch.cat([(1 - sigma) * known + sigma * noise[:, :, :count], latents[:, :, count:]], 2)


class _Passes:
    """Runs the passes of a step; falls back to one at a time for good where a batch does not fit into memory."""

    def __init__(
        self,
        transformer: FantasyTalkingTransformer3DModel,
        branches: Branches,
        given: Tensor,
        batching: Literal["auto", "on", "off"],
    ) -> None:
        self.transformer, self.branches = transformer, branches
        self.given = given.to(transformer.dtype)
        self.batching = batching

    def run(self, which: Sequence[Pass], latents: Tensor, timestep: Tensor) -> dict[Pass, Tensor]:
        """Velocities [1, C, f, h, w] of the given passes."""
        hidden = torch.cat([latents.to(self.given), self.given], 1)
        told = [branch(self.branches.conditions, one, self.branches.negative_text) for one in which]
        if len(which) > 1 and self._batch(len(which), hidden):
            try:
                velocities = self._call(hidden, timestep, Conditions.cat(told))
                return dict(zip(which, velocities.split(1), strict=True))
            except torch.OutOfMemoryError:
                if self.batching == "on":
                    raise
                self.batching = "off"
                torch.cuda.empty_cache()
        return {one: self._call(hidden, timestep, conditions) for one, conditions in zip(which, told, strict=True)}

    def _call(self, hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        batch = conditions.batch_size
        repeated = hidden.expand(batch, *hidden.shape[1:])
        velocity: Tensor = self.transformer(repeated, timestep.expand(batch), conditions, return_dict=False)[0]
        return velocity

    def _batch(self, passes: int, hidden: Tensor) -> bool:
        if self.batching != "auto":
            return self.batching == "on"
        return _activation_bytes(self.transformer, hidden, passes) < 0.5 * _free_bytes(hidden.device)


def _activation_bytes(transformer: FantasyTalkingTransformer3DModel, hidden: Tensor, passes: int) -> float:
    """A generous estimate of what one forward pass holds besides the weights.

    The widest moment of a block is its feed-forward network, in the model's type, beside float32 copies of the tokens.
    """
    config = transformer.config
    tokens = hidden[0, 0].numel() / float(np.prod(config.patch_size))
    width = config.num_attention_heads * config.attention_head_dim
    values = tokens * (8 * width + 2 * config.ffn_dim) * hidden.element_size() + tokens * 6 * width * 4
    return passes * values


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    page = os.sysconf("SC_PAGE_SIZE") if "SC_PAGE_SIZE" in names else 0
    if "SC_AVPHYS_PAGES" in names:
        return float(os.sysconf("SC_AVPHYS_PAGES") * page)
    # macOS tells the size of the memory only.
    return float(os.sysconf("SC_PHYS_PAGES") * page) / 4 if "SC_PHYS_PAGES" in names else 0.0
