"""Generate a clip as a memory plan says, and one plan lower where memory runs out: the shared body of commands, service and nodes."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fantasytalking.errors import OutOfMemory
from fantasytalking.generation.plan_request import PlanOfRequest, plan_label, plan_of_request, profile_of
from fantasytalking.generation.request import Made, Request
from fantasytalking.generation.run_options import speed_of
from fantasytalking.pipeline.progress import quiet_frameworks
from fantasytalking.system.startup import importing_frameworks

if TYPE_CHECKING:
    import torch

    from fantasytalking.acceleration.apply_plan import SpeedOptions
    from fantasytalking.acceleration.memory_plan import MemoryPlan
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.acceleration.resolve_plan import Machine
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.talking_video import TalkingVideo

__all__ = ["LoadedModel", "generate_planned", "together"]


class LoadedModel:
    """The model of the last clip, which the next one uses again if its plan is the same; of one model and its options."""

    def __init__(self) -> None:
        self._machine: Machine | None = None
        self._choices: Any = None
        self._pipeline: FantasyTalkingPipeline | None = None
        self._encoder_threads = 0

    def machine(self, place: Any) -> Machine:
        """The memory of the machine before a model was loaded: a plan for the next clip counts the loaded one's as free."""
        from fantasytalking.acceleration.resolve_plan import Machine

        if self._machine is None:
            self._machine = Machine.of(place)
        return self._machine

    def load(self, request: Request, plan: MemoryPlan | None, speed: Any) -> tuple[FantasyTalkingPipeline, int]:
        """The pipeline for a plan, and the threads of its video encoder.

        Raises:
            FantasyTalkingError: Whatever loading raises.
        """
        from fantasytalking.acceleration.apply_plan import release
        from fantasytalking.pipeline.load_pipeline import load_pipeline, use_threads
        from fantasytalking.system.machine import choose_device

        if self._pipeline is None or self._choices != (plan, speed):
            if self._pipeline is not None:
                # Both may not fit.
                self.drop()
                release(choose_device(request.run.device))
            run = request.run
            weights = run.transformer, run.adapter, run.speech_encoder
            pipeline = load_pipeline(request.model, run.device, run.dtype, plan, speed, *weights)
            self._encoder_threads = use_threads(pipeline, run.threads)
            if request.ranks is not None:
                pipeline.enable_parallel(ranks=request.ranks)
            self._pipeline, self._choices = pipeline, (plan, speed)
        return self._pipeline, self._encoder_threads

    def drop(self) -> None:
        """Refer to the model no longer."""
        self._pipeline = None


def generate_planned(request: Request, progress: Progress, loaded: LoadedModel | None = None) -> Made:
    """Generate the clip of a request; after an error of too little memory once more, by the next plan below.

    Args:
        request: What is generated.
        progress: Shows stages and notes.
        loaded: Keeps the model for the next clip.

    Raises:
        FantasyTalkingError: Whatever loading and generating raise.
    """
    loaded = loaded or LoadedModel()
    chosen: _Chosen | None = None

    def attempt(plan: MemoryPlan | None = None) -> Made:
        nonlocal chosen
        # One stage, as a user waits for one thing: the plan says how the model is loaded.
        with together(request.ranks), progress.stage("loading"), importing_frameworks():
            if chosen is None:
                chosen = _choose(request, progress, loaded)
                plan = None if chosen.planned is None else chosen.planned.run.plan
            pipeline, threads = loaded.load(request, plan, chosen.speed)
        return _write(request, progress, pipeline, threads, chosen.settings, plan)

    try:
        return attempt()
    except _memory_errors() as error:
        # Before the except clause ends, its traceback holds the pipeline and with it the memory.
        planned = None if chosen is None else chosen.planned
        lower = None if planned is None else planned.lower
        if lower is None and isinstance(error, OutOfMemory):
            raise
        if lower is None:
            raise _does_not_fit(planned, request.ranks is not None) from error
    from fantasytalking.acceleration.apply_plan import release

    assert chosen is not None and planned is not None
    loaded.drop()
    release(chosen.place)
    progress.note(
        f"The memory plan {plan_label(planned.run)} ran out of memory; once more by the plan {plan_label(lower)}."
    )
    return attempt(lower.plan)


@dataclass(frozen=True)
class _Chosen:
    """What a request comes to on this machine, with its profile and its plan."""

    place: torch.device
    settings: dict[str, Any]
    speed: SpeedOptions
    planned: PlanOfRequest | None


def _choose(request: Request, progress: Progress, loaded: LoadedModel) -> _Chosen:
    """Choose device, settings and plan, and tell what a user should know of them."""
    quiet_frameworks()
    from fantasytalking.system.machine import choose_device

    place = choose_device(request.run.device)
    resolved = profile_of(request.model, request.run, request.profile, request.settings)
    settings = {**resolved.settings, **request.settings}
    speed = speed_of(request.profile, resolved.profile.compile, resolved.scheduler)
    planned = plan_of_request(request, settings, loaded.machine(place))
    notes = () if planned is None else planned.notes
    for note in (*resolved.notes, *notes, *_about_compiling(request, place), *_about_hearing(request)):
        progress.note(note)
    return _Chosen(place, settings, speed, planned)


def _write(
    request: Request,
    progress: Progress,
    pipeline: FantasyTalkingPipeline,
    threads: int,
    settings: dict[str, Any],
    plan: MemoryPlan | None,
) -> Made:
    """Generate and write the video with a pipeline that is loaded."""
    from fantasytalking.pipeline.plan_run import settings_by_plan
    from fantasytalking.pipeline.talking_video import VideoOutput

    given = {**settings, **({} if plan is None else settings_by_plan(plan))}
    if request.place is not None:
        with together(request.ranks):
            return request.place.write(pipeline, (request.portrait, request.speech), given, threads, progress)
    given["output"] = VideoOutput(request.target, request.run.overwrite, threads)
    video: TalkingVideo = pipeline(request.portrait, request.speech, progress=progress, **given)
    return video


def _memory_errors() -> tuple[type[BaseException], ...]:
    """Errors of too little memory; PyTorch's only once it is imported."""
    torch = sys.modules.get("torch")
    return (OutOfMemory,) if torch is None else (OutOfMemory, torch.OutOfMemoryError)


def _about_hearing(request: Request) -> list[str]:
    """A note where the speech is heard by another network than the model's."""
    from fantasytalking.pipeline.other_speech_encoder import encoder_note

    return [] if request.run.speech_encoder is None else [encoder_note(request.run.speech_encoder)]


def _does_not_fit(planned: PlanOfRequest | None, is_shared: bool) -> OutOfMemory:
    by = "" if planned is None else f" by the plan {plan_label(planned.run)}"
    way_out = "and there is none below it; use a device with more memory."
    if is_shared:
        way_out = "which several processes cannot change in the middle; use --memory low or minimal."
    return OutOfMemory(f"The model does not fit into the memory of the device{by}, {way_out}")


def together(ranks: Ranks | None) -> contextlib.AbstractContextManager[None]:
    """A block that several processes go through together, or none."""
    return contextlib.nullcontext() if ranks is None else ranks.together()


def _about_compiling(request: Request, place: Any) -> list[str]:
    if request.profile.compile == "on" and place.type != "cuda":
        return [f"Blocks are compiled on CUDA devices only, so --compile on has no effect on {place.type}."]
    return []
