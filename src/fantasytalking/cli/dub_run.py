"""`generate --video`: new speech over footage, by the same plans as a portrait's video."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.cli.options import RunOptions
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions
from fantasytalking.cli.planned_run import Request, check_choices, generate_planned, report
from fantasytalking.errors import AudioError, VideoError
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.progress import TerminalProgress
from fantasytalking.system.files import check_output, existing_file
from fantasytalking.system.startup import check_threads

if TYPE_CHECKING:
    from fantasytalking.pipeline.dubbing import DubbedVideo
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["dub_file"]


@dataclass(frozen=True)
class DubTarget:
    """Where a dubbed video goes.

    Attributes:
        output: The file.
        overwrite: Whether an existing file may be replaced.
    """

    output: Path
    overwrite: bool

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> DubbedVideo:
        """Dub and write; the arguments are those of `StreamTarget.write`, with footage in place of the portrait."""
        from fantasytalking.pipeline.talking_video import VideoOutput

        output = VideoOutput(self.output, self.overwrite, threads)
        return pipeline.dub(*inputs, output, progress=progress, **settings)


def dub_file(
    video: str | os.PathLike[str],
    audio: str | os.PathLike[str],
    output: Path,
    model: str,
    run: RunOptions,
    settings: dict[str, Any],
    plan: tuple[MemoryOptions, ProfileOptions],
) -> int:
    """Dub one video and print its path.

    Everything that can be checked is checked before the model is loaded; the face is followed then, too.
    """
    check_threads(run.threads)
    target = check_output(output, run.overwrite, ENDINGS)
    existing_file(video, "video", VideoError)
    existing_file(audio, "audio", AudioError)
    check_choices(model, run, plan)
    progress = TerminalProgress()
    # Imported here, so that --help does not wait for the readers.
    from fantasytalking.pipeline.early_inputs import read_footage_inputs

    footage, speech = read_footage_inputs(video, audio, model, settings, progress)
    place = DubTarget(target, run.overwrite)
    made = generate_planned(Request(model, footage, speech, target, run, settings, *plan, place), progress)
    report(made, target, model, run, progress)
    return 0
