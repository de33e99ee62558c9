"""`fantasytalking generate`: a video from a portrait and speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fantasytalking.cli.options import RunOptions, SettingOptions, given_settings, parse
from fantasytalking.cli.parallel_run import ParallelOptions, alike, generate_together
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions
from fantasytalking.cli.planned_run import Job
from fantasytalking.cli.stream_run import STANDARD_OUTPUT

__all__ = ["main"]


@dataclass(frozen=True)
class Generate:
    """Animate a portrait with speech of any length. The path of the video is the last line of the output."""

    image: Path
    """The portrait: any common picture format."""
    audio: Path
    """The speech: a sound file, or a video whose sound is used."""
    output: Path
    """The video to write: mp4, mov or mkv; - for standard output, with the progress on standard error."""
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
    several: ParallelOptions = field(default_factory=ParallelOptions)
    """How many devices make it."""
    settings: SettingOptions = field(default_factory=SettingOptions)
    """How the video is generated. A model folder may have defaults of its own; options given here take precedence."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking generate --help`."""
    with alike():
        options = parse(Generate, "generate", arguments)
        settings = given_settings(options.settings)
    plan = options.memory, options.speed
    stream = options.stream or options.output == STANDARD_OUTPUT
    job = Job(options.image, options.audio, options.output, options.model, options.run, settings, plan, stream)
    return generate_together(job, options.several.parallel)
