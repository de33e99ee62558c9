"""Frames and sound of a span, read by seeking and not from the beginning of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.preparation.clip_records import ClipSpan, Refusal
from fantasytalking.errors import AudioError
from fantasytalking.media.audio import fit_length, load_audio
from fantasytalking.media.coverage import NEGLIGIBLE_GAP
from fantasytalking.media.loudness import SILENCE_DBFS, is_silent
from fantasytalking.media.video import iterate_frames

__all__ = ["ReplayableFrames", "SpanReader"]

_MAX_BYTES = 400 * 2**20


class ReplayableFrames:
    """Frames that can be iterated several times: kept in memory up to 400 MiB, otherwise read again.

    Args:
        read: Gives the frames from the first on, the same each time.
    """

    def __init__(self, read: Callable[[], Iterator[NDArray[np.uint8]]]) -> None:
        self._read = read
        self._frames: list[NDArray[np.uint8]] | None = None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        if self._frames is not None:
            yield from self._frames
            return
        kept: list[NDArray[np.uint8]] | None = []
        for index, frame in enumerate(self._read()):
            if kept is not None:
                kept.append(frame)
                if (index + 1) * frame.nbytes > _MAX_BYTES:
                    kept = None
            yield frame
        self._frames = kept


@dataclass(frozen=True)
class SpanReader:
    """Reads one span at a model's frame rate.

    Attributes:
        span: The span to read.
        fps: Frames per second; frame k is the source frame nearest to ``span.start + k / fps``.
    """

    span: ClipSpan
    fps: float

    @property
    def count(self) -> int:
        """Number of frames that lie wholly in the span."""
        return int(self.span.seconds * self.fps + 1e-3)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Read the frames, uint8 [H, W, 3] each, at most `count` of them."""
        return iterate_frames(self.span.video.path, self.fps, self.count, self.span.start)

    def replayable_frames(self) -> ReplayableFrames:
        """Same as `frames`, to be iterated several times."""
        return ReplayableFrames(self.frames)

    def sound(self) -> NDArray[np.float32]:
        """Read the sound: float32 [n] at 16 kHz, mono, exactly as long as `count` frames.

        Raises:
            Refusal: "no-sound", also where the sound ends before the frames, or "silent".
        """
        seconds = self.count / self.fps
        try:
            audio = load_audio(
                self.span.video.path,
                SAMPLE_RATE,
                min_seconds=0.0,
                start=self.span.start,
                seconds=seconds,
                allow_silent=True,
            )
        except AudioError as error:
            raise Refusal("no-sound", str(error)) from error
        if audio.seconds < seconds - NEGLIGIBLE_GAP:
            detail = f"The sound ends {seconds - audio.seconds:.2f} s before the picture of the clip."
            raise Refusal("no-sound", detail)
        samples = fit_length(audio.samples, round(seconds * SAMPLE_RATE))
        peak = float(np.abs(samples).max(initial=0.0))
        if is_silent(samples, SAMPLE_RATE):
            detail = f"No 50 ms of the clip are louder than {SILENCE_DBFS:g} dBFS; a clip needs audible speech."
            raise Refusal("silent", detail, {"peak": round(peak, 5)})
        return samples
