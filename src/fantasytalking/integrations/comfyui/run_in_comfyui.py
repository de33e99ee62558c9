"""A generation within ComfyUI: its progress bar, its interrupt, its memory, and what was made.

ComfyUI imports the nodes of all its extensions when it starts; diffusers and what else generating needs is imported by the first run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from fantasytalking.generation.planned_run import LoadedModel, generate_planned
from fantasytalking.generation.request import Made, Place, Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.integrations.comfyui.tensors import take
from fantasytalking.pipeline.progress import Advance, Progress

__all__ = ["ChosenModel", "ComfyProgress", "FramesPlace", "MadeFrames", "VideoPlace", "generate"]


@dataclass(frozen=True)
class ChosenModel:
    """A model and how it runs; it is loaded by the first node that generates, whose clip decides about the memory plan.

    Attributes:
        name: Name of the model, or its folder.
        run: Where it runs, and the weights in place of its own.
        memory: Options about memory.
        profile: Options about speed.
        is_kept: Whether it stays loaded after a video.
        loaded: Keeps it from video to video.
    """

    name: str
    run: RunOptions
    memory: MemoryOptions
    profile: ProfileOptions
    is_kept: bool = True
    loaded: LoadedModel = field(default_factory=LoadedModel, compare=False)


class ComfyProgress(Progress):
    """Stages on the bar of the node that runs, notes in ComfyUI's log. Each step asks whether the user wants to stop."""

    def between_steps(self) -> None:
        """Raise ComfyUI's own exception if the user has pressed its button: it ends the run, and no half-written file remains."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def show_note(self, text: str) -> None:
        """Write a note to ComfyUI's log."""
        logging.info("FantasyTalking: %s", text)

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show a stage on the node's bar."""
        self.between_steps()
        bar = comfy.utils.ProgressBar(total)

        def advance(steps: int = 1) -> None:
            bar.update(steps)
            self.between_steps()

        yield advance


@dataclass(frozen=True)
class MadeFrames:
    """A video as ComfyUI holds it.

    Attributes:
        images: Float32 [F, H, W, 3] in 0..1.
        video: The video that they are from.
    """

    images: torch.Tensor
    video: Any

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return float(self.video.duration)

    @property
    def settings(self) -> Any:
        """Settings of the generation."""
        return self.video.settings

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        summary: dict[str, Any] = self.video.summary()
        return summary


class FramesPlace:
    """Memory: frames are taken while the pipeline is there, which makes those of a long video when they are asked for."""

    def write(
        self, pipeline: Any, inputs: tuple[Any, Any], settings: dict[str, Any], threads: int, progress: Progress
    ) -> MadeFrames:
        """Generate; the arguments are those of `Place.write`."""
        video = pipeline(*inputs, progress=progress, **settings)
        return MadeFrames(take(video, video.source.size), video)


@dataclass(frozen=True)
class VideoPlace:
    """A file that the video is written to while it is made, in constant memory.

    Attributes:
        path: The file.
    """

    path: Path

    def write(
        self, pipeline: Any, inputs: tuple[Any, Any], settings: dict[str, Any], threads: int, progress: Progress
    ) -> Made:
        """Generate and write; the arguments are those of `Place.write`."""
        from fantasytalking.pipeline.talking_video import VideoOutput

        made: Made = pipeline(*inputs, progress=progress, output=VideoOutput(self.path, threads=threads), **settings)
        return made


@dataclass(frozen=True)
class _OwnThreads:
    """A place whose pipeline uses as many threads as it does on the command line, each time: a kept one is not loaded again."""

    place: Place
    count: int | None

    def write(
        self, pipeline: Any, inputs: tuple[Any, Any], settings: dict[str, Any], threads: int, progress: Progress
    ) -> Made:
        from fantasytalking.pipeline.load_pipeline import use_threads

        return self.place.write(pipeline, inputs, settings, use_threads(pipeline, self.count), progress)


def generate(
    model: ChosenModel, inputs: tuple[Any, Any], settings: Mapping[str, Any], place: Place, progress: Progress
) -> Made:
    """Generate a video as the memory plan for it says.

    Args:
        model: The model.
        inputs: Portrait or footage, and speech, as they were read.
        settings: Settings that were given, by name.
        place: Where the video goes.
        progress: Shows stages and notes.

    Raises:
        FantasyTalkingError: Whatever loading and generating raise.
    """
    from fantasytalking.acceleration.apply_plan import release
    from fantasytalking.system.machine import choose_device
    from fantasytalking.system.processes import threads

    device = choose_device(model.run.device)
    if device.type != "cpu":
        # ComfyUI's models give way, as they do for each other; the plan counts what is free.
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()
    request = Request(
        model.name,
        *inputs,
        Path(),
        model.run,
        dict(settings),
        model.memory,
        model.profile,
        _OwnThreads(place, model.run.threads),
    )
    try:
        # ComfyUI runs nodes in inference mode, in which parts that are kept could not be changed later, as by LoRA. The number of threads
        # is that of the whole process, so other nodes get theirs back.
        with torch.inference_mode(False), torch.no_grad(), threads(torch.get_num_threads()):
            return generate_planned(request, progress, model.loaded)
    finally:
        if not model.is_kept:
            model.loaded.drop()
            release(device)
