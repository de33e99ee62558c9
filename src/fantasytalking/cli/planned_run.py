"""Generate a clip as a memory plan says, and one plan lower where memory runs out: the shared body of `generate`, `demo` and `batch`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fantasytalking.cli.options import RunOptions, check_weights_options
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions, overrides_of, parse_loras, speed_of
from fantasytalking.cli.stream_run import STANDARD_OUTPUT, Streamed, StreamTarget, check_stream
from fantasytalking.errors import AudioError, ImageError, OutOfMemory
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.progress import TerminalProgress, quiet_frameworks
from fantasytalking.pipeline.settings import DECIDING_BY_PASS, GenerationSettings
from fantasytalking.system.files import check_output, existing_file
from fantasytalking.system.startup import check_threads, importing_frameworks

if TYPE_CHECKING:
    from fantasytalking.acceleration.memory_plan import MemoryPlan
    from fantasytalking.acceleration.resolve_plan import Machine, PlannedRun
    from fantasytalking.pipeline.inputs import AudioSource, ImageSource
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.talking_video import TalkingVideo
    from fantasytalking.pipeline.written_video import WrittenVideo

    Made = TalkingVideo | Streamed | WrittenVideo

__all__ = ["LoadedModel", "Request", "check_choices", "generate_file", "generate_planned", "report"]


class Place(Protocol):
    """Where a video goes that the pipeline's call does not write: `StreamTarget`, `DubTarget`."""

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> Made:
        """Generate and write; the arguments are those of `StreamTarget.write`."""


def generate_file(
    image: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    output: Path,
    model: str,
    run: RunOptions,
    settings: dict[str, Any],
    plan: tuple[MemoryOptions, ProfileOptions] | None = None,
    stream: bool = False,
) -> int:
    """Generate one video and print its path: the shared body of `generate` and `demo`.

    Everything that can be checked is checked before the model is loaded.
    """
    check_threads(run.threads)
    overwrite = run.overwrite
    target = check_stream(output, overwrite, run.json) if stream else check_output(output, overwrite, ENDINGS)
    existing_file(image, "image", ImageError)
    existing_file(audio, "audio", AudioError)
    check_choices(model, run, plan)
    progress = TerminalProgress()
    portrait, speech = _read(image, audio, model, settings, progress)
    memory, profile = plan or (MemoryOptions(), ProfileOptions())
    place = StreamTarget(target, run.overwrite) if stream else None
    video = generate_planned(Request(model, portrait, speech, target, run, settings, memory, profile, place), progress)
    report(video, target, model, run, progress)
    return 0


def check_choices(model: str, run: RunOptions, plan: tuple[MemoryOptions, ProfileOptions] | None) -> None:
    """Check the model's name and the options about how it runs.

    Raises:
        FantasyTalkingError: There is no such model, or an option cannot be followed.
    """
    resolve_model(model)
    check_weights_options(run.transformer, run.adapter)
    if plan is not None:
        parse_loras(plan[1].lora)


def report(video: Made, target: Path, model: str, run: RunOptions, progress: TerminalProgress) -> None:
    """Print what was made: one JSON object, or the file's path as the last line."""
    if run.json:
        print(json.dumps({"output": str(target), "model": model, **video.summary()}, ensure_ascii=False))
    else:
        total = sum(progress.seconds.values())
        print(f"{video.duration:.2f} s of video in {total:.1f} s, seed {video.settings.seed}", file=sys.stderr)
        if isinstance(video, Streamed):
            print(video.pace.summary(video.fps), file=sys.stderr)
        if target != STANDARD_OUTPUT:
            print(target)


def _read(
    image: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    model: str,
    settings: dict[str, Any],
    progress: TerminalProgress,
) -> tuple[ImageSource, AudioSource]:
    with progress.stage("reading"):
        # Imported here, so that --help does not wait for the readers.
        from fantasytalking.pipeline.early_inputs import read_inputs

        return read_inputs(image, audio, model, settings)


@dataclass(frozen=True)
class Request:
    """What a command was asked for.

    Attributes:
        model: Name of the model.
        portrait: The portrait, read already where the model's demands are known.
        speech: The speech, likewise.
        target: The video to write.
        run: Where and how the command runs.
        settings: Settings that were given, by name.
        memory: Options about memory.
        profile: Options about speed.
        place: Writes the video where it goes, such as a stream; None: the pipeline does, and `target` is complete or not there.
    """

    model: str
    portrait: Any
    speech: Any
    target: Path
    run: RunOptions
    settings: dict[str, Any]
    memory: MemoryOptions
    profile: ProfileOptions
    place: Place | None = None


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
    with progress.stage("loading"), importing_frameworks():
        quiet_frameworks()
        import torch

        from fantasytalking.acceleration.apply_plan import release
        from fantasytalking.acceleration.profiles import profile_settings
        from fantasytalking.system.machine import choose_device

        loaded = loaded or LoadedModel()
        place = choose_device(request.run.device)
        known = GenerationSettings().to_dict()
        profile, changes = profile_settings(request.profile.profile, known, bool(request.profile.lora))
        settings = {**changes, **request.settings}
        speed = speed_of(request.profile, profile.compile)
        planned, lower = _plans(request, settings, place, loaded)
    for note in _notes(planned, request.memory):
        progress.note(note)
    if request.profile.compile == "on" and place.type != "cuda":
        progress.note(f"Blocks are compiled on CUDA devices only, so --compile on has no effect on {place.type}.")

    def attempt(plan: MemoryPlan | None, batching: dict[str, Any]) -> Made:
        from fantasytalking.pipeline.talking_video import VideoOutput

        with progress.stage("loading"), importing_frameworks():
            pipeline, encoder_threads = loaded.load(request, plan, speed)
        given = {**settings, **batching}
        if request.place is not None:
            return request.place.write(pipeline, (request.portrait, request.speech), given, encoder_threads, progress)
        output = VideoOutput(request.target, request.run.overwrite, encoder_threads)
        video: TalkingVideo = pipeline(request.portrait, request.speech, progress=progress, output=output, **given)
        return video

    try:
        return attempt(None if planned is None else planned.plan, _batching(planned, place.type != "cpu", settings))
    except (OutOfMemory, torch.OutOfMemoryError) as error:
        # Before the except clause ends, its traceback holds the pipeline and with it the memory.
        if lower is None and isinstance(error, OutOfMemory):
            raise
        if lower is None:
            raise OutOfMemory(
                f"The model does not fit into the memory of the device by the plan {_label(planned)}, and there is none below it; use a "
                "device with more memory."
            ) from error
    loaded.drop()
    release(place)
    progress.note(f"The memory plan {_label(planned)} ran out of memory; once more by the plan {_label(lower)}.")
    return attempt(lower.plan, _batching(lower, True, settings))


def _plans(
    request: Request, settings: dict[str, Any], place: Any, loaded: LoadedModel
) -> tuple[PlannedRun | None, PlannedRun | None]:
    """The plan of a request and the one below it; None where the model's sizes are not known."""
    from fantasytalking.acceleration.part_sizes import read_sizes
    from fantasytalking.acceleration.resolve_plan import next_plan, resolve_plan
    from fantasytalking.errors import CheckpointError
    from fantasytalking.pipeline.load_pipeline import local_folder
    from fantasytalking.pipeline.plan_run import clip_of, dtype_name

    folder = local_folder(request.model, request.run.transformer)
    try:
        sizes = read_sizes(Path(folder), request.run.transformer, request.run.adapter)
    except CheckpointError:
        # Its loader says what is wrong with the folder or the weights.
        return None, None
    overrides = overrides_of(request.memory, dtype_name(request.run.dtype, place), settings)
    clip, machine = clip_of(Path(folder), settings, request.portrait, request.speech), loaded.machine(place)
    planned = resolve_plan(sizes, clip, machine, request.memory.memory, overrides)
    return planned, next_plan(sizes, clip, machine, planned.plan, overrides)


def _batching(planned: PlannedRun | None, follow: bool, settings: dict[str, Any]) -> dict[str, Any]:
    # On a CPU the sampler looks at free memory itself, and a cache that decides for each pass has no batches.
    if planned is None or not follow or settings.get("cache") in DECIDING_BY_PASS:
        return {}
    return {"batch_passes": planned.plan.batch_passes}


def _label(planned: PlannedRun | None) -> str:
    if planned is None:
        return "of the model"
    choices = planned.plan.describe()
    return f"{planned.plan.name} ({choices['offload']}; passes {choices['guidance passes']}; VAE {choices['VAE']})"


def _notes(planned: PlannedRun | None, memory: MemoryOptions) -> list[str]:
    """What a user should know before it begins."""
    if planned is None:
        return []
    notes = [] if planned.plan.name == "high" else [f"Memory plan {_label(planned)}."]
    if not planned.fits and memory.memory != "auto":
        notes.append(
            f"The memory plan {memory.memory} is expected not to fit: {planned.peaks.device_peak / 2**30:.1f} GiB on the device and "
            f"{planned.peaks.host / 2**30:.1f} GiB of main memory; --memory auto chooses one that does."
        )
    return notes
