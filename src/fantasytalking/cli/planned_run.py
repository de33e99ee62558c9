"""Generate a clip as a memory plan says, and one plan lower where memory runs out: the shared body of `generate`, `demo` and `batch`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.cli.generation_request import Request
from fantasytalking.cli.options import RunOptions, check_weights_options
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions, parse_loras, speed_of
from fantasytalking.cli.plan_request import PlanOfRequest, plan_label, plan_of_request, profile_of
from fantasytalking.cli.stream_run import STANDARD_OUTPUT, Streamed, StreamTarget, check_stream
from fantasytalking.errors import AudioError, ImageError, InputError, OutOfMemory
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import QuietProgress, TerminalProgress, quiet_frameworks
from fantasytalking.system.files import check_output, existing_file
from fantasytalking.system.startup import check_threads, importing_frameworks

if TYPE_CHECKING:
    from fantasytalking.acceleration.memory_plan import MemoryPlan
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.acceleration.resolve_plan import Machine
    from fantasytalking.cli.generation_request import Made
    from fantasytalking.pipeline.inputs import AudioSource, ImageSource
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.talking_video import TalkingVideo

__all__ = ["Job", "LoadedModel", "check_job", "check_request", "generate_and_tell", "generate_file", "generate_planned"]


@dataclass(frozen=True)
class Job:
    """What a command was asked for, as words: it may go to other processes.

    Attributes:
        image: The portrait.
        audio: The speech.
        output: The video to write.
        model: Name of the model.
        run: Where and how the command runs.
        settings: Settings that were given, by name.
        plan: Options about memory and speed.
        stream: Whether the video is to play while it is written.
    """

    image: str | os.PathLike[str]
    audio: str | os.PathLike[str]
    output: Path
    model: str
    run: RunOptions
    settings: dict[str, Any]
    plan: tuple[MemoryOptions, ProfileOptions] = (MemoryOptions(), ProfileOptions())
    stream: bool = False


def generate_file(job: Job, ranks: Ranks | None = None) -> int:
    """Generate one video and print its path: the shared body of `generate` and `demo`.

    Everything that can be checked is checked before the model is loaded. Of several processes, the first alone writes and prints.
    """
    progress: Progress = TerminalProgress() if ranks is None or ranks.is_first else QuietProgress()
    with _together(ranks):
        target = check_job(job)
        portrait, speech = _read(job.image, job.audio, job.model, job.settings, progress)
    place = StreamTarget(target, job.run.overwrite) if job.stream else None
    request = Request(job.model, portrait, speech, target, job.run, job.settings, *job.plan, place, ranks)
    return generate_and_tell(request, progress)


def check_job(job: Job) -> Path:
    """`check_request` of a portrait's video."""
    files = (job.image, "image", ImageError), (job.audio, "audio", AudioError)
    return check_request(files, job.output, job.model, job.run, job.plan, job.stream)


def check_request(
    files: Iterable[tuple[str | os.PathLike[str], str, type[InputError]]],
    output: Path,
    model: str,
    run: RunOptions,
    plan: tuple[MemoryOptions, ProfileOptions],
    stream: bool = False,
) -> Path:
    """Check what takes no time; gives the path of the video.

    Args:
        files: Files to read, with what each is called and the error of one that is missing.
        output: The video to write.
        model: Name of the model.
        run: Where and how the command runs.
        plan: Options about memory and speed.
        stream: Whether the video is to play while it is written.

    Raises:
        FantasyTalkingError: A file is missing, the output exists, or an option cannot be followed.
    """
    check_threads(run.threads)
    target = check_stream(output, run.overwrite, run.json) if stream else check_output(output, run.overwrite, ENDINGS)
    for file in files:
        existing_file(*file)
    resolve_model(model)
    check_weights_options(run.transformer, run.adapter)
    parse_loras(plan[1].lora)
    return target


def generate_and_tell(request: Request, progress: Progress) -> int:
    """Generate the video of a request and print what was made: one JSON object, or the file's path as the last line."""
    video, target = generate_planned(request, progress), request.target
    if request.ranks is not None and not request.ranks.is_first:
        return 0
    if request.run.json:
        print(json.dumps({"output": str(target), "model": request.model, **video.summary()}, ensure_ascii=False))
        return 0
    total = sum(progress.seconds.values())
    print(f"{video.duration:.2f} s of video in {total:.1f} s, seed {video.settings.seed}", file=sys.stderr)
    if isinstance(video, Streamed):
        for sentence in video.told():
            print(sentence, file=sys.stderr)
    if target != STANDARD_OUTPUT:
        print(target)
    return 0


def _read(
    image: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    model: str,
    settings: dict[str, Any],
    progress: Progress,
) -> tuple[ImageSource, AudioSource]:
    with progress.stage("reading"):
        # Imported here, so that --help does not wait for the readers.
        from fantasytalking.pipeline.early_inputs import read_inputs

        return read_inputs(image, audio, model, settings)


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
            pipeline = load_pipeline(request.model, run.device, run.dtype, plan, speed, run.transformer, run.adapter)
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
    with _together(request.ranks), progress.stage("loading"), importing_frameworks():
        quiet_frameworks()
        import torch

        from fantasytalking.acceleration.apply_plan import release
        from fantasytalking.system.machine import choose_device

        loaded = loaded or LoadedModel()
        place = choose_device(request.run.device)
        resolved = profile_of(request.model, request.run, request.profile, request.settings)
        settings = {**resolved.settings, **request.settings}
        speed = speed_of(request.profile, resolved.profile.compile, resolved.scheduler)
        planned = plan_of_request(request, settings, loaded.machine(place))
        lower = None if planned is None else planned.lower
    notes = () if planned is None else planned.notes
    for note in (*resolved.notes, *notes, *_about_compiling(request, place)):
        progress.note(note)

    def attempt(plan: MemoryPlan | None) -> Made:
        from fantasytalking.pipeline.plan_run import settings_by_plan
        from fantasytalking.pipeline.talking_video import VideoOutput

        with _together(request.ranks), progress.stage("loading"), importing_frameworks():
            pipeline, encoder_threads = loaded.load(request, plan, speed)
        given = {**settings, **({} if plan is None else settings_by_plan(plan))}
        if request.place is not None:
            return request.place.write(pipeline, (request.portrait, request.speech), given, encoder_threads, progress)
        if request.ranks is None or request.ranks.is_first:
            given["output"] = VideoOutput(request.target, request.run.overwrite, encoder_threads)
        else:
            given["output_type"] = "latent"
        video: TalkingVideo = pipeline(request.portrait, request.speech, progress=progress, **given)
        return video

    try:
        return attempt(None if planned is None else planned.run.plan)
    except (OutOfMemory, torch.OutOfMemoryError) as error:
        # Before the except clause ends, its traceback holds the pipeline and with it the memory.
        if lower is None and isinstance(error, OutOfMemory):
            raise
        if lower is None:
            raise _does_not_fit(planned, request.ranks is not None) from error
    loaded.drop()
    release(place)
    assert planned is not None
    progress.note(
        f"The memory plan {plan_label(planned.run)} ran out of memory; once more by the plan {plan_label(lower)}."
    )
    return attempt(lower.plan)


def _does_not_fit(planned: PlanOfRequest | None, is_shared: bool) -> OutOfMemory:
    by = "" if planned is None else f" by the plan {plan_label(planned.run)}"
    way_out = "and there is none below it; use a device with more memory."
    if is_shared:
        way_out = "which several processes cannot change in the middle; use --memory low or minimal."
    return OutOfMemory(f"The model does not fit into the memory of the device{by}, {way_out}")


def _together(ranks: Ranks | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if ranks is None else ranks.together()


def _about_compiling(request: Request, place: Any) -> list[str]:
    if request.profile.compile == "on" and place.type != "cuda":
        return [f"Blocks are compiled on CUDA devices only, so --compile on has no effect on {place.type}."]
    return []
