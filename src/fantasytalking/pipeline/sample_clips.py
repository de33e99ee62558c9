"""Sampling of encoded clips by a pipeline: schedule, guidance, hooks and what the autoencoder adds afterwards.

Letters: B clips, C latent channels, f latent frames, h and w latent rows and columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fantasytalking.geometry import TIME_STRIDE
from fantasytalking.pipeline.call_arguments import Case, drawn
from fantasytalking.pipeline.clip_batches import Clip, Run, alike, decoded, encode_clip, joined
from fantasytalking.pipeline.encoders import encode_prompts
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.kept_steps import KeptSteps
from fantasytalking.pipeline.noise_schedule import Schedule, make_schedule
from fantasytalking.pipeline.sampling import Hooks, StepHook, continuation, denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.step_callback import StepCallback
from fantasytalking.pipeline.talking_video import TalkingVideo
from fantasytalking.pipeline.window_fusion import Window

__all__ = ["make_clips", "sample_clips"]


def sample_clips(
    pipeline: Any,
    clips: Sequence[Clip],
    noise: Tensor,
    run: Run,
    first: int = 0,
    windows: Sequence[Window] = (),
) -> list[Tensor]:
    """Denoise clips of one size to [1, C, f, h, w] each.

    Args:
        pipeline: Its transformer, scheduler and autoencoder are used.
        clips: B clips.
        noise: [B, C, f, h, w] on any device.
        run: What the clips of the call have in common.
        first: Number of the first video frame, for a segment of a long video.
        windows: Windows of a video that the model cannot see as a whole.
    """
    noise = pipeline._of_first(noise.to(pipeline._execution_device))
    settings, beginning, autoencoder = clips[0].case.settings, clips[0].beginning, pipeline.autoencoder
    schedule, start = make_schedule(pipeline.scheduler, settings, noise.device), noise
    kept = None if run.kept is None else run.kept.part(first // TIME_STRIDE, noise.shape[2])
    if kept is not None:
        schedule, start = kept.begin(schedule, noise)
    guidance, image_latents = joined(clips, autoencoder.audio_channels, pipeline.ranks)
    pipeline._num_timesteps, begun = len(schedule.timesteps), 0
    if run.steps is not None:
        steps, keeps_each = run.steps, _goes_on_from_latents(pipeline, settings, schedule, run)
        count = pipeline._num_timesteps
        begun, latents = pipeline._made_by_first(lambda: steps.begin(noise.cpu(), count, keeps_each))
        start = latents.to(noise.device)
    done = list(range(begun))
    after_step: list[StepHook] = [lambda step, *_: done.append(step)]
    if beginning is not None:
        after_step.append(continuation(beginning.latents, noise, schedule))
    if kept is not None:
        after_step.append(kept.keep(schedule, noise))
    seen = None if run.callback is None else StepCallback(pipeline, run.callback, run.tensor_names, guidance)
    after_step.append(_told(pipeline, seen))
    after_step.append(lambda step, timestep, latents: pipeline._of_first(latents))
    if run.steps is not None:
        after_step.append(_kept(pipeline, run.steps))
    steer = None if seen is None else seen.steer
    hooks = Hooks(run.progress, tuple(after_step), steer, pipeline._is_stopped)
    latents = denoise(pipeline.transformer, schedule, start, image_latents, guidance, hooks, windows, begun)
    if len(done) < pipeline._num_timesteps:
        run.progress.note(
            f"The run was interrupted after {len(done)} of {pipeline._num_timesteps} steps, so the video is unfinished."
        )
    given = 0 if beginning is None else beginning.latents.shape[2]
    return [
        autoencoder.enliven(one, clip.case.settings.seed, clip.case.settings.w_face, given, first)
        for one, clip in zip(latents.split(1), clips, strict=True)
    ]


def _goes_on_from_latents(pipeline: Any, settings: GenerationSettings, schedule: Schedule, run: Run) -> bool:
    """Whether the steps that follow depend on nothing but the latents; if not, that is told."""
    has_cache = settings.cache != "none" or pipeline.transformer.is_cache_enabled
    reasons = {
        "its scheduler": not schedule.is_resumable,
        "its step cache": has_cache,
        "its callback": run.callback is not None,
    }
    known = [reason for reason, is_so in reasons.items() if is_so]
    if known:
        run.progress.note(
            f"Each step of this run depends on more than the latents before it ({', '.join(known)}), so a run that is interrupted before "
            "the last step begins anew."
        )
    return not known


def _told(pipeline: Any, callback: StepCallback | None) -> StepHook:
    """A callback, of which not every process need have one; its error in one of several processes is an error of all."""

    def after_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
        with pipeline._together():
            return None if callback is None else callback.after_step(step, timestep, latents)

    return after_step


def _kept(pipeline: Any, steps: KeptSteps) -> StepHook:
    """Stores what the steps have made; an error in the process that stores it is an error of all."""

    def after_step(step: int, timestep: Tensor, latents: Tensor) -> None:
        with pipeline._together():
            steps.keep(step + 1, latents)

    return after_step


def make_clips(
    pipeline: Any, pairs: Sequence[tuple[Case, tuple[Portrait, Speech]]], run: Run
) -> tuple[list[TalkingVideo], list[Tensor]]:
    """The videos of clips that are sampled at once, and their latents [1, C, f, h, w].

    Args:
        pipeline: The pipeline.
        pairs: Arguments of each clip, with its portrait and speech as read.
        run: What the clips of the call have in common.
    """
    progress = run.progress
    with pipeline._together(), progress.stage("encoding"):
        parts = pipeline.encoders, pipeline.autoencoder, pipeline.rules
        # All prompts before all else, see `encode_prompts`.
        texts = [encode_prompts(parts[0], case.settings, case.text.prompt, case.text.negative) for case, _ in pairs]
        clips = [
            dataclasses.replace(
                encode_clip(*parts, case, *inputs, text, run, len(pairs) == 1),
                marks=marks_of(pipeline, case.settings, [inputs]),
            )
            for (case, inputs), text in zip(pairs, texts, strict=True)
        ]
    latents: dict[int, Tensor] = {}
    for group in alike(clips):
        noise = drawn([clip.case for clip in group], group[0].shape, progress.note)
        latents.update(zip(map(id, group), pipeline._sample(group, noise, run), strict=True))
    ordered = [latents[id(clip)] for clip in clips]
    with pipeline._together():
        writes = pipeline._writes
        videos = [
            decoded(pipeline.autoencoder, clip, one, run, writes) for clip, one in zip(clips, ordered, strict=True)
        ]
    return videos, ordered
