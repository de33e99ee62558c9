"""`fantasytalking generate`: a video from a portrait, or from existing footage, and speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fantasytalking.cli.dub_run import dub_file
from fantasytalking.cli.options import RunOptions, SettingOptions, given_settings, parse
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions
from fantasytalking.cli.planned_run import generate_file
from fantasytalking.cli.stream_run import STANDARD_OUTPUT
from fantasytalking.errors import SettingsError

__all__ = ["main"]


@dataclass(frozen=True)
class Generate:
    """Animate a portrait with speech of any length, or dub footage. The path of the video is the last line of the output."""

    audio: Path
    """The speech: a sound file, or a video whose sound is used."""
    output: Path
    """The video to write: mp4, mov or mkv; - for standard output, with the progress on standard error."""
    image: Path | None = None
    """The portrait: any common picture format."""
    video: Path | None = None
    """Footage in place of the portrait: who speaks in it gets the new speech, everything else stays as filmed."""
    stream: bool = False
    """Write an mp4 that plays while it grows, from the first second on; with --output - always so."""
    model: str = "embedded"
    """embedded (comes with the package), a model folder, or the name of a repository on the Hugging Face hub."""
    run: RunOptions = field(default_factory=RunOptions)
    """How and where the command runs."""
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    """How much memory it takes."""
    speed: ProfileOptions = field(default_factory=ProfileOptions)
    """How exact and how fast it is."""
    settings: SettingOptions = field(default_factory=SettingOptions)
    """How the video is generated. A model folder may have defaults of its own; options given here take precedence."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking generate --help`."""
    options = parse(Generate, "generate", arguments)
    settings = given_settings(options.settings)
    plan = options.memory, options.speed
    stream = options.stream or options.output == STANDARD_OUTPUT
    if options.image is not None and options.video is not None:
        raise SettingsError("Both --image and --video were given; give the portrait or the footage.")
    if options.video is not None:
        if stream:
            raise SettingsError("Footage is not streamed; leave out --stream and give --output a file.")
        return dub_file(options.video, options.audio, options.output, options.model, options.run, settings, plan)
    if options.image is None:
        raise SettingsError(
            "'fantasytalking generate' needs --image, the portrait, or --video, footage to dub; 'fantasytalking generate --help' lists all "
            "options."
        )
    return generate_file(
        options.image, options.audio, options.output, options.model, options.run, settings, plan, stream
    )
