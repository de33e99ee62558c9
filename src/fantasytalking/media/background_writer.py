"""Writing of a video in a thread of its own, while the next frames are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import numpy.typing as npt

from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.media.video_writer import VideoWriter

__all__ = ["BackgroundWriter"]

_AHEAD = 16
"""Frames that may wait for the encoder: enough to hide an uneven pace, and few enough for memory."""


class BackgroundWriter:
    """A `VideoWriter`, or a `StreamWriter`, whose frames are converted and encoded in another thread; it is used in the same way.

    An error of the encoder is raised by a later `write`, or at the end of the block.

    Args:
        writer: The writer, not entered yet; it belongs to this object from now on.
    """

    def __init__(self, writer: VideoWriter | StreamWriter) -> None:
        self._writer = writer
        self._write: Callable[..., None] = writer.write
        self._pool = ThreadPoolExecutor(1, "video-writer")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        """Create the temporary file."""
        self._writer.__enter__()
        return self

    def write(self, frame: npt.NDArray[np.uint8], *sound: npt.NDArray[np.float32]) -> None:
        """Hand over one frame, which must not be changed afterwards; waits where the encoder is far behind.

        Args:
            frame: uint8 RGB [H, W, 3], every frame of the same size.
            sound: Its sound, for a `StreamWriter`.

        Raises:
            VideoError: An earlier frame, or this one, is not such an array.
            OutputError: The disk is full.
        """
        while self._pending and (self._pending[0].done() or len(self._pending) >= _AHEAD):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._write, frame, *sound))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the file, or remove every trace of it."""
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        except BaseException as failure:
            self._end(type(failure), failure, failure.__traceback__)
            raise
        self._end(kind, error, trace)

    def _end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The thread ends first: the writer must not be closed below a frame that is being encoded.
        try:
            self._pool.shutdown(cancel_futures=True)
        finally:
            self._writer.__exit__(kind, error, trace)
