"""`generate --audio -`: raw speech from standard input is said while it comes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fantasytalking.cli.command_job import check_request, generate_and_tell
from fantasytalking.cli.stream_run import Streamed, StreamTarget
from fantasytalking.errors import AudioError, ImageError, SettingsError
from fantasytalking.generation.request import Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.pipeline.progress import TerminalProgress

if TYPE_CHECKING:
    from fantasytalking.pipeline.live_session import LiveSession
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["STANDARD_INPUT", "PcmOptions", "say_standard_input"]

STANDARD_INPUT = Path("-")
_AT_ONCE = 65_536
"""Bytes read at most; what is there is read at once."""


@dataclass(frozen=True)
class PcmOptions:
    """Speech from standard input (--audio -): raw samples of one channel, as they come."""

    pcm_rate: int | None = None
    """With --audio -: samples a second, such as 16000; a multiple of 25 from 8000 to 192000."""
    pcm_format: Literal["s16le", "s32le", "f32le"] = "s16le"
    """With --audio -: format of the samples, as FFmpeg calls it."""
    real_time: bool = False
    """With --audio -: keep to the clock. While no speech comes the person rests, in silence; otherwise it is waited for."""


def say_standard_input(
    image: Path,
    pcm: PcmOptions,
    output: Path,
    model: str,
    run: RunOptions,
    settings: dict[str, Any],
    plan: tuple[MemoryOptions, ProfileOptions],
) -> int:
    """Say what comes from standard input, and print the path of the video.

    Raises:
        FantasyTalkingError: Standard input is a terminal or holds no sound, an option is missing, or whatever generating raises.
    """
    rate = _check(pcm)
    target = check_request([(image, "image", ImageError)], output, model, run, plan, stream=True)
    progress = TerminalProgress()
    with progress.stage("reading"):
        from fantasytalking.pipeline.early_inputs import read_portrait

        portrait = read_portrait(image, model, settings)
    place = LiveTarget(StreamTarget(target, run.overwrite), rate, pcm)
    return generate_and_tell(Request(model, portrait, None, target, run, settings, *plan, place), progress)


def _check(pcm: PcmOptions) -> int:
    if pcm.pcm_rate is None:
        raise SettingsError(
            "With --audio - raw speech is read from standard input, whose rate only you know; add --pcm-rate, such as --pcm-rate 16000."
        )
    from fantasytalking.pipeline.live_timeline import checked_live_rate

    rate = checked_live_rate(pcm.pcm_rate)
    if sys.stdin is None or sys.stdin.isatty():
        what = "is closed" if sys.stdin is None else "is a terminal"
        raise AudioError(
            f"With --audio - raw speech comes from standard input, which {what}; send it from a program or a file, such as "
            f"'ffmpeg -i FILE -f {pcm.pcm_format} -ac 1 -ar {rate} - | fantasytalking generate --audio - ...'."
        )
    return rate


@dataclass(frozen=True)
class LiveTarget:
    """Live speech of standard input, and where its stream goes.

    Attributes:
        stream: Where it goes.
        rate: Samples a second.
        pcm: Format of the speech.
    """

    stream: StreamTarget
    rate: int
    pcm: PcmOptions

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> Streamed:
        """Generate and write; the arguments are those of `StreamTarget.write`.

        Raises:
            FantasyTalkingError: Whatever generating and writing raise, or there was no sound.
        """
        from fantasytalking.pipeline.live_options import LiveOptions
        from fantasytalking.pipeline.live_session import Feeder

        how: dict[str, Any] = {"sample_rate": self.rate, "pcm_format": self.pcm.pcm_format, "progress": progress}
        options = LiveOptions(real_time=self.pcm.real_time)
        with pipeline.live_session(inputs[0], options=options, **how, **settings) as session:
            Feeder(session.speech, _chunks(), in_thread=True)
            with _finishing(session, progress):
                try:
                    pace, first = self.stream.write_pieces(session, threads)
                except StopIteration:
                    raise AudioError("Standard input ended before any sound came; send samples to it.") from None
            return Streamed(pace, first.fps, session.size, session.settings, progress, session.delay)


def _chunks() -> Iterator[bytes]:
    descriptor = sys.stdin.fileno()
    while chunk := os.read(descriptor, _AT_ONCE):
        yield chunk


@contextlib.contextmanager
def _finishing(session: LiveSession, progress: Progress) -> Iterator[None]:
    """Let Ctrl-C end the speech, so that what has come is still said; pressed again it ends the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def finish(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        # In a thread, as this one may hold the session's lock.
        threading.Thread(target=session.stop).start()
        progress.note("Interrupted: what has been heard is still said; press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, finish)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
