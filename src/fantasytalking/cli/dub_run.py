"""`generate --video` and `--speaker`: new speech over footage, several people in one picture; by the plans of a portrait's video."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fantasytalking.cli.command_job import Job, check_request
from fantasytalking.errors import AudioError, ImageError, SettingsError, VideoError
from fantasytalking.generation.dub_target import DubTarget
from fantasytalking.generation.request import Request

if TYPE_CHECKING:
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.pipeline.progress import Progress

__all__ = ["DubJob", "SpeakersJob", "parse_speakers"]


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


@dataclass(frozen=True, kw_only=True)
class DubJob(Job):
    """Footage with new speech.

    Attributes:
        video: The footage.
        audio: The speech, or speeches by number of the face.
    """

    video: str | os.PathLike[str]
    audio: Path | dict[int, Path]

    def check(self) -> Path:
        """See `Job.check`."""
        sounds = self.audio.values() if isinstance(self.audio, dict) else (self.audio,)
        files = (self.video, "video", VideoError), *((one, "audio", AudioError) for one in sounds)
        return check_request(files, self.output, self.model, self.run, self.plan)

    def read(self, target: Path, progress: Progress, ranks: Ranks | None) -> Request:
        """Read the inputs and follow the face; see `Job.read`."""
        # Imported here, so that --help does not wait for the readers.
        from fantasytalking.pipeline.early_inputs import read_footage_inputs

        inputs = read_footage_inputs(self.video, self.audio, self.model, self.settings, progress)
        place = DubTarget(target, self.run.overwrite, True)
        return Request(self.model, *inputs, target, self.run, self.settings, *self.plan, place, ranks)


@dataclass(frozen=True, kw_only=True)
class SpeakersJob(Job):
    """A video of a picture in which several people speak.

    Attributes:
        image: The picture.
        audio: Speeches by number of the face.
    """

    image: Path
    audio: dict[int, Path]

    def check(self) -> Path:
        """See `Job.check`."""
        files = (self.image, "image", ImageError), *((one, "audio", AudioError) for one in self.audio.values())
        return check_request(files, self.output, self.model, self.run, self.plan)

    def read(self, target: Path, progress: Progress, ranks: Ranks | None) -> Request:
        """See `Job.read`."""
        with progress.stage("reading"):
            from fantasytalking.pipeline.early_inputs import read_speakers

            inputs = read_speakers(self.image, self.audio, self.model, self.settings)
        place = DubTarget(target, self.run.overwrite, False)
        return Request(self.model, *inputs, target, self.run, self.settings, *self.plan, place, ranks)
