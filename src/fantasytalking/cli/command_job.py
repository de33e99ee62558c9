"""Checks, generation and report of a command: the shared body of `generate` and `demo`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.cli.stream_run import STANDARD_OUTPUT, Streamed, StreamTarget, check_stream
from fantasytalking.errors import AudioError, ImageError, InputError
from fantasytalking.generation.planned_run import generate_planned, together
from fantasytalking.generation.request import Request
from fantasytalking.generation.run_options import (
    MemoryOptions,
    ProfileOptions,
    RunOptions,
    check_device_options,
    check_weights_options,
    use_signing_options,
)
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.model_names import model_index, resolve_model
from fantasytalking.pipeline.progress import QuietProgress, TerminalProgress
from fantasytalking.system.files import check_output, existing_file
from fantasytalking.system.startup import check_threads

if TYPE_CHECKING:
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.pipeline.progress import Progress

__all__ = ["Job", "PortraitJob", "check_request", "generate_and_tell", "generate_file"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a command was asked for, as words: it may go to other processes. Subclasses say what is read.

    Attributes:
        output: The video to write.
        model: Name of the model.
        run: Where and how the command runs.
        settings: Settings that were given, by name.
        plan: Options about memory and speed.
    """

    output: Path
    model: str
    run: RunOptions
    settings: dict[str, Any]
    plan: tuple[MemoryOptions, ProfileOptions] = (MemoryOptions(), ProfileOptions())

    def check(self) -> Path:
        """Check what takes no time; gives the path of the video, see `check_request`."""
        raise NotImplementedError

    def read(self, target: Path, progress: Progress, ranks: Ranks | None) -> Request:
        """Read the inputs.

        Args:
            target: What `check` gave.
            progress: Shows stages and notes.
            ranks: Processes that share the work, or None.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PortraitJob(Job):
    """A video of a portrait.

    Attributes:
        image: The portrait.
        audio: The speech.
        stream: Whether the video is to play while it is written.
    """

    image: str | os.PathLike[str]
    audio: str | os.PathLike[str]
    stream: bool = False

    def check(self) -> Path:
        """See `Job.check`."""
        files = (self.image, "image", ImageError), (self.audio, "audio", AudioError)
        return check_request(files, self.output, self.model, self.run, self.plan, self.stream)

    def read(self, target: Path, progress: Progress, ranks: Ranks | None) -> Request:
        """See `Job.read`."""
        with progress.stage("reading"):
            # Imported here, so that --help does not wait for the readers.
            from fantasytalking.pipeline.early_inputs import read_inputs

            inputs = read_inputs(self.image, self.audio, self.model, self.settings)
        place = StreamTarget(target, self.run.overwrite) if self.stream else None
        return Request(self.model, *inputs, target, self.run, self.settings, *self.plan, place, ranks)


def generate_file(job: Job, ranks: Ranks | None = None) -> int:
    """Generate one video and print its path: the shared body of `generate` and `demo`.

    Everything that can be checked is checked before the model is loaded. Of several processes, the first alone writes and prints.
    """
    progress: Progress = TerminalProgress() if ranks is None or ranks.is_first else QuietProgress()
    with together(ranks):
        request = job.read(job.check(), progress, ranks)
    return generate_and_tell(request, progress)


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
    folder = resolve_model(model)
    if isinstance(folder, Path):
        model_index(folder)
    check_weights_options(run.transformer, run.adapter)
    use_signing_options(run)
    check_device_options(run, plan[1])
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
