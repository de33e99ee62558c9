"""`fantasytalking generate`: a video from a portrait, or from existing footage, and speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.cli.command_job import Job, PortraitJob
from fantasytalking.cli.dub_run import DubJob, SpeakersJob, parse_speakers
from fantasytalking.cli.live_run import STANDARD_INPUT, PcmOptions, say_standard_input
from fantasytalking.cli.options import SettingOptions, given_settings, parse
from fantasytalking.cli.parallel_run import ParallelOptions, alike, generate_together, started_by_torchrun
from fantasytalking.cli.server_run import check_server_options, generate_on_server
from fantasytalking.cli.stream_run import STANDARD_OUTPUT
from fantasytalking.errors import SettingsError
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions

__all__ = ["main"]

_HELP = "; 'fantasytalking generate --help' lists all options."


@dataclass(frozen=True)
class Generate:
    """Animate a portrait with speech of any length, or dub footage. The path of the video is the last line of the output."""

    output: Path
    """The video to write: mp4, mov or mkv; - for standard output, with the progress on standard error."""
    image: Path | None = None
    """The portrait: any common picture format."""
    audio: Path | None = None
    """The speech: a sound file, or a video whose sound is used; - for raw samples on standard input, said while they come."""
    video: Path | None = None
    """Footage in place of the portrait: who speaks in it gets the new speech, everything else stays as filmed."""
    speaker: tuple[str, ...] = ()
    """In place of --audio: FACE=AUDIO for each person who speaks, such as 0=anna.wav 1=ben.wav; faces are counted as for --face."""
    stream: bool = False
    """Write an mp4 that plays while it grows, from the first second on; with --output - always so."""
    model: str = "embedded"
    """embedded (comes with the package), a model folder, or the name of a repository on the Hugging Face hub."""
    server: str | None = None
    """Address of a service ('fantasytalking serve') that makes the video, such as http://127.0.0.1:8000; --model is one of its models."""
    token_file: Path | None = None
    """With --server: file with the access token."""
    live: PcmOptions = field(default_factory=PcmOptions)
    """What comes from standard input."""
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
    if options.image is not None and options.video is not None:
        raise SettingsError("Both --image and --video were given; give the portrait or the footage.")
    if options.image is None and options.video is None:
        raise SettingsError(f"'fantasytalking generate' needs --image, the portrait, or --video, footage to dub{_HELP}")
    if (options.audio is None) == (not options.speaker):
        both = "not both" if options.speaker else "the speech"
        raise SettingsError(f"'fantasytalking generate' needs --audio or --speaker, {both}{_HELP}")
    speakers = parse_speakers(options.speaker)
    if speakers and "face" in settings:
        raise SettingsError("--speaker says which faces speak; leave out --face.")
    others = {"stream": stream, "parallel": options.several.parallel is not None}
    check_server_options(options.server, options.token_file, options.run, plan, others)
    if options.server is not None:
        inputs = options.image, options.video, speakers if options.audio is None else options.audio
        return generate_on_server(
            options.server,
            options.token_file,
            inputs,
            options.output,
            options.model,
            options.run,
            options.speed.profile,
            settings,
        )
    rest: dict[str, Any] = {"output": options.output, "model": options.model, "run": options.run}
    rest |= {"settings": settings, "plan": plan}
    _check_live(options)
    if options.audio == STANDARD_INPUT:
        assert options.image is not None
        with alike():
            if options.several.parallel is not None or started_by_torchrun():
                raise SettingsError("Live speech is said by one process; leave out --parallel and torchrun.")
        return say_standard_input(options.image, options.live, **rest)
    with alike():
        job = _job(options, speakers, rest, stream)
    return generate_together(job, options.several.parallel)


def _job(options: Generate, speakers: dict[int, Path], rest: dict[str, Any], stream: bool) -> Job:
    """What is generated of speech that is all there."""
    if stream and (options.video is not None or speakers):
        raise SettingsError(
            "Footage and several speakers are not streamed; leave out --stream, and give --output a file."
        )
    if options.video is not None:
        return DubJob(video=options.video, audio=speakers if options.audio is None else options.audio, **rest)
    assert options.image is not None
    if options.audio is None:
        return SpeakersJob(image=options.image, audio=speakers, **rest)
    return PortraitJob(image=options.image, audio=options.audio, stream=stream, **rest)


def _check_live(options: Generate) -> None:
    if options.audio != STANDARD_INPUT:
        if options.live != PcmOptions():
            raise SettingsError(
                "--pcm-rate, --pcm-format and --real-time are for speech from standard input; add --audio -."
            )
        return
    if options.video is not None:
        raise SettingsError(
            "Footage is dubbed with speech that is all there; give --audio a file, or --image in place of --video."
        )
