"""`generate --video` and `--speaker`: new speech over footage, several people in one picture; by the plans of a portrait's video."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.cli.command_job import check_request, generate_and_tell
from fantasytalking.errors import AudioError, ImageError, SettingsError, VideoError
from fantasytalking.generation.read_speakers import read_speakers
from fantasytalking.generation.request import Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.pipeline.progress import TerminalProgress

if TYPE_CHECKING:
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.written_video import WrittenVideo

__all__ = ["dub_file", "parse_speakers", "speak_together_file"]


@dataclass(frozen=True)
class DubTarget:
    """Where a dubbed video goes.

    Attributes:
        output: The file.
        overwrite: Whether an existing file may be replaced.
        is_footage: Whether footage is dubbed; else several people speak in a picture.
    """

    output: Path
    overwrite: bool
    is_footage: bool

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> WrittenVideo:
        """Make and write; the arguments are those of `StreamTarget.write`, with footage, or portraits by face, in place of the portrait."""
        from fantasytalking.pipeline.talking_video import VideoOutput

        output = VideoOutput(self.output, self.overwrite, threads)
        make = pipeline.dub if self.is_footage else pipeline.speak_together
        return make(*inputs, output, progress=progress, **settings)


def parse_speakers(texts: tuple[str, ...]) -> dict[int, Path]:
    """Sound files by number of the face, from texts such as `0=anna.wav`.

    Raises:
        SettingsError: A text is not of this form, or a face is named twice.
    """
    found: dict[int, Path] = {}
    for text in texts:
        face, _, file = text.partition("=")
        if not (face.isdecimal() and file):
            raise SettingsError(f"--speaker takes FACE=AUDIO, such as 0=anna.wav, but {text!r} was given.")
        if int(face) in found:
            raise SettingsError(f"--speaker names face {face} twice; give each face one sound file.")
        found[int(face)] = Path(file)
    return found


def dub_file(
    video: str | os.PathLike[str],
    audio: Path | dict[int, Path],
    output: Path,
    model: str,
    run: RunOptions,
    settings: dict[str, Any],
    plan: tuple[MemoryOptions, ProfileOptions],
) -> int:
    """Dub one video, by one speech or by speeches of several faces, and print its path.

    Everything that can be checked is checked before the model is loaded; the face is followed then, too.
    """
    sounds = audio.values() if isinstance(audio, dict) else (audio,)
    files = (video, "video", VideoError), *((one, "audio", AudioError) for one in sounds)
    target = check_request(files, output, model, run, plan)
    progress = TerminalProgress()
    # Imported here, so that --help does not wait for the readers.
    from fantasytalking.pipeline.early_inputs import read_footage_inputs

    footage, speech = read_footage_inputs(video, audio, model, settings, progress)
    place = DubTarget(target, run.overwrite, True)
    return generate_and_tell(Request(model, footage, speech, target, run, settings, *plan, place), progress)


def speak_together_file(
    image: Path,
    audio: dict[int, Path],
    output: Path,
    model: str,
    run: RunOptions,
    settings: dict[str, Any],
    plan: tuple[MemoryOptions, ProfileOptions],
) -> int:
    """Write a video of a picture in which several people speak, and print its path."""
    files = (image, "image", ImageError), *((one, "audio", AudioError) for one in audio.values())
    target = check_request(files, output, model, run, plan)
    progress = TerminalProgress()
    with progress.stage("reading"):
        portraits, speeches = read_speakers(image, audio, model, settings)
    place = DubTarget(target, run.overwrite, False)
    return generate_and_tell(Request(model, portraits, speeches, target, run, settings, *plan, place), progress)
