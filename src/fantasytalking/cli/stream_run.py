"""`generate --stream`: the video is written while it is made, to a file that plays as it grows or to standard output."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.errors import OutputError
from fantasytalking.media.video_formats import STREAM_ENDINGS
from fantasytalking.system.files import check_output

if TYPE_CHECKING:
    from fantasytalking.pipeline.live_delay import LiveDelay
    from fantasytalking.pipeline.long_output import StreamedFrame, StreamPace
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["STANDARD_OUTPUT", "StreamTarget", "Streamed", "check_stream"]

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class StreamTarget:
    """Where a stream goes.

    Attributes:
        output: mp4 or m4v file, or `-`.
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
    ) -> Streamed:
        """Generate and write.

        Args:
            pipeline: The pipeline.
            inputs: Portrait and speech.
            settings: Settings by name.
            threads: Number of the video encoder's threads; 0 uses all cores.
            progress: Shows notes.

        Raises:
            FantasyTalkingError: Whatever generating and writing raise.
        """
        from fantasytalking.pipeline.long_output import StreamPace

        # Where writing fails, the other processes hear of it by the end of the frames.
        with contextlib.closing(pipeline.stream(*inputs, progress=progress, **settings)) as pieces:
            if pipeline.ranks is not None and not pipeline.ranks.is_first:
                for _ in pieces:  # none comes here: this process samples with the first
                    pass
                return Streamed(StreamPace(), 1.0, (0, 0), pipeline.settings(**settings), progress)
            pace, first = self.write_pieces(pieces, threads)
        height, width = first.pixels.shape[:2]
        return Streamed(pace, first.fps, (height, width), pipeline.settings(**settings), progress)

    def write_pieces(self, pieces: Iterator[StreamedFrame], threads: int) -> tuple[StreamPace, StreamedFrame]:
        """Write frames as they come, at least one; tells how fast they came, and the first of them.

        Args:
            pieces: Frames with their sound.
            threads: Number of the video encoder's threads; 0 uses all cores.

        Raises:
            FantasyTalkingError: Whatever making the frames and writing raise.
            StopIteration: There is no frame.
        """
        from fantasytalking.media.background_writer import BackgroundWriter
        from fantasytalking.media.stream_writer import StreamWriter
        from fantasytalking.pipeline.long_output import StreamPace

        pace = StreamPace()
        first = next(pieces)
        with _destination(self.output) as place:
            plain = StreamWriter(place, first.fps, first.sample_rate, self.overwrite, marks=first.marks)
            try:
                with plain if threads == 1 else BackgroundWriter(plain) as writer:
                    for piece in itertools.chain((first,), pieces):
                        writer.write(piece.pixels, piece.sound)
                        pace.mark()
            except BaseException as error:
                if isinstance(place, Path) and place.exists() and place.stat().st_size == 0:
                    place.unlink()
                elif isinstance(error, KeyboardInterrupt):
                    error.add_note("The stream ends there; what was written of it plays.")
                raise
        return pace, first


@dataclass(frozen=True)
class Streamed:
    """A stream that has ended.

    Attributes:
        pace: How fast it came.
        fps: Frames per second.
        size: (H, W) in pixels.
        settings: Settings of the generation.
        progress: Kept times and notes.
        delay: Time from sound to frame of live speech; None where it was all there.
    """

    pace: StreamPace
    fps: float
    size: tuple[int, int]
    settings: Any
    progress: Progress
    delay: LiveDelay | None = None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.pace.frames / self.fps

    def told(self) -> list[str]:
        """Sentences about the pace, for people."""
        return [self.pace.summary(self.fps), *([] if self.delay is None else [self.delay.summary()])]

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        delays = {} if self.delay is None else self.delay.to_dict()
        return {
            "frames": self.pace.frames,
            "fps": self.fps,
            "width": self.size[1],
            "height": self.size[0],
            "duration": round(self.duration, 3),
            "first_frame_seconds": round(self.pace.first_after, 3),
            "frames_per_second": round(self.pace.rate, 2),
            **delays,
            "settings": self.settings.to_dict(),
            "notes": list(self.progress.notes),
            "seconds": {name: round(value, 3) for name, value in self.progress.seconds.items()},
        }


def check_stream(output: Path, overwrite: bool, as_json: bool) -> Path:
    """Check, before any long work, that a stream can be written.

    Raises:
        OutputError: The file cannot be written; or standard output is a terminal, or is to take JSON as well.
    """
    if output != STANDARD_OUTPUT:
        return check_output(output, overwrite, STREAM_ENDINGS)
    if as_json:
        raise OutputError(
            "With --output - the video goes to standard output, and --json writes there, too; leave one of them out."
        )
    if sys.stdout is None:
        raise OutputError(
            "With --output - the video goes to standard output, which is closed; send it to a program or a file."
        )
    if sys.stdout.isatty():
        raise OutputError(
            "With --output - the video goes to standard output, which is a terminal; send it to a program or a file, such as "
            "'| ffplay -'."
        )
    return output


@contextlib.contextmanager
def _destination(output: Path) -> Iterator[Path | Callable[[bytes], object]]:
    """The file; or what writes to standard output, which nothing else can reach meanwhile."""
    if output != STANDARD_OUTPUT:
        yield output
        return
    sys.stdout.flush()
    video, usual = os.dup(1), os.dup(1)
    # Whatever libraries print to standard output, natively or not, would break the video.
    os.dup2(2, 1)
    try:
        with os.fdopen(video, "wb", buffering=0) as stream:
            yield lambda data: _write_all(stream.fileno(), data)
    finally:
        os.dup2(usual, 1)
        os.close(usual)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
