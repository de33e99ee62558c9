"""From noise to clean latents: the one sampler of generation, validation and distillation.

Letters: B samples, C channels, f latent frames (k of them known), h and w latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fantasytalking.flow import noised
from fantasytalking.pipeline.guidance_passes import Denoiser, Guidance, GuidancePasses, Place
from fantasytalking.pipeline.noise_schedule import Schedule
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.window_fusion import FusedPasses, Window

__all__ = ["Hooks", "StepHook", "continuation", "denoise"]

StepHook = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called after a step with its index, timestep and latents; may return other latents to go on with."""


@dataclass(frozen=True)
class Hooks:
    """What happens around the steps of a sampling run.

    Attributes:
        progress: Shows the stage "sampling" and its steps.
        after_step: Called after each step, in this order; each sees the latents of the one before.
        steer: Gives the guidance of the next step, called after those; None: it stays as it is.
        interrupted: Asked before each step; the run ends there where it says so.
    """

    progress: Progress = field(default_factory=Progress)
    after_step: tuple[StepHook, ...] = ()
    steer: Callable[[Guidance], Guidance] | None = None
    interrupted: Callable[[], bool] = lambda: False


def denoise(
    model: Denoiser,
    schedule: Schedule,
    noise: Tensor,
    image_latents: Tensor,
    guidance: Guidance,
    hooks: Hooks | None = None,
    windows: Sequence[Window] = (),
    done: int = 0,
) -> Tensor:
    """Integrate the guided velocity from noise to data.

    Args:
        model: Predicts the velocity.
        schedule: Noise levels and solver.
        noise: [B, C, f, h, w], unit variance where the schedule begins at noise level 1; latents after the steps that were done.
        image_latents: [B, 4 + C, f, h, w], mask and latents of the portrait; with windows those of each window.
        guidance: Conditions of B samples and how strongly they act; with windows all but the speech.
        hooks: Progress, and what is done after each step; None: nothing.
        windows: Stretches of the latent frames that the model sees one at a time, and whose velocities are fused; none: it sees them all.
        done: Steps that an interrupted run took, of a schedule that `is_resumable`.

    Returns:
        Latents at the schedule's last noise level, or where a hook ended the run, [B, C, f, h, w], float32.
    """
    hooks = hooks or Hooks()
    plan, solve, latents, count = guidance.plan, schedule.solver(done), noise.float(), len(schedule.timesteps)
    places = [Place(step, count, value) for step, value in enumerate(schedule.timesteps.tolist())]
    with hooks.progress.stage("sampling", count) as advance, guidance.cache.enabled(model, count):
        passes: GuidancePasses | FusedPasses = GuidancePasses(model, guidance, image_latents)
        if windows:
            passes = FusedPasses(model, guidance, image_latents, windows)
        if passes.batching != guidance.batching == "on":
            hooks.progress.note(
                "batch_passes has no effect with the cache first-block, which decides for each pass whether it is computed."
            )
        if done:
            advance(done)
        for step, timestep in list(enumerate(schedule.timesteps))[done:]:
            if hooks.interrupted():
                break
            velocities = passes.run(plan.passes(step, count), latents, timestep, places[step])
            latents = solve(plan.combine(velocities, step, count, guidance.audio_channels), timestep, latents)
            for hook in hooks.after_step:
                changed = hook(step, timestep, latents)
                latents = latents if changed is None else changed
            if hooks.steer is not None:
                passes.guidance = hooks.steer(passes.guidance)
            advance()
    return latents


def continuation(known: Tensor, noise: Tensor, schedule: Schedule) -> StepHook:
    """A hook that keeps the first latent frames at known ones, so that the other frames join them.

    After each step they are put there at the step's noise level, with the noise that they began with.

    Args:
        known: [B, C, k, h, w], clean latents of the first k latent frames.
        noise: [B, C, f, h, w] that sampling begins with.
        schedule: Of the sampling.
    """
    sigmas, count = schedule.sigmas, known.shape[2]

    def put(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
        end = sigmas[step + 1] if step + 1 < len(sigmas) else sigmas.new_zeros(())
        level = end.to(latents).expand(len(latents))
        beginning = noised(known.to(latents), noise[:, :, :count].to(latents), level)
        return torch.cat([beginning, latents[:, :, count:]], 2)

    return put
