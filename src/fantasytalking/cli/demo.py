"""`fantasytalking demo`: animates the packaged portrait with the packaged speech; needs no argument and no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fantasytalking.cli.command_job import PortraitJob, generate_file
from fantasytalking.cli.options import SettingOptions, given_settings, parse
from fantasytalking.generation.run_options import RunOptions
from fantasytalking.pipeline.model_names import EMBEDDED, embedded_folder

__all__ = ["main"]


@dataclass(frozen=True)
class Demo:
    """Animate the example portrait with the example speech. The path of the video is the last line of the output."""

    output: Path = Path("demo.mp4")
    """The video to write."""
    run: RunOptions = field(default_factory=RunOptions)
    """How and where the command runs."""
    settings: SettingOptions = field(default_factory=SettingOptions)
    """How the video is generated. A model folder may have defaults of its own; options given here take precedence."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking demo --help`."""
    options = parse(Demo, "demo", arguments)
    settings = given_settings(options.settings)
    example = embedded_folder() / "example"
    portrait, speech = example / "portrait.png", example / "speech.wav"
    return generate_file(
        PortraitJob(
            image=portrait, audio=speech, output=options.output, model=EMBEDDED, run=options.run, settings=settings
        )
    )
