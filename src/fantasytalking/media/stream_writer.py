"""Writing of fragmented MP4: a video that plays while it grows, in a file or a pipe.

Dimensions: H height, W width, n samples.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from fractions import Fraction
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.stream import VideoStream

from fantasytalking.errors import OutputError, VideoError
from fantasytalking.media.container import write_errors
from fantasytalking.media.encoder_input import encodable
from fantasytalking.media.resampling import StreamResampler
from fantasytalking.media.sound_track import SOUND_RATE, SoundTrack
from fantasytalking.media.video_formats import STREAM_ENDINGS
from fantasytalking.media.video_writer import add_picture, even_frame, exact_rate
from fantasytalking.provenance.frame_marker import FrameMarker
from fantasytalking.provenance.growing_manifest import GrowingManifest
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.signed_manifest import container_metadata
from fantasytalking.system.files import check_output
from fantasytalking.system.held_interrupt import interrupt_held

__all__ = ["StreamWriter"]

FRAGMENT_SECONDS = 0.25
"""A fragment is written when it is as long: how far the file lies behind the picture."""
_KEYFRAME_SECONDS = 2
# No frame is held back by the encoder, and one core is left for the picture.
_X264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}


class StreamWriter:
    """Writer of frames and their sound to a growing video, for a `with` block. What was written plays, whatever ends the block.

    Args:
        target: mp4 or m4v file, which is written in place; or a function that takes bytes, such as `sys.stdout.buffer.write`.
        fps: Frames a second.
        sound_rate: Samples a second of the sound that is given.
        overwrite: Whether an existing file may be replaced.
        threads: Number of the encoder's threads; 0 uses all cores.
        marks: What the video is marked with as made by a model: those of a `StreamedFrame`, which name model and settings; True: the same
            without these names; False: it is not marked.

    Attributes:
        frames: Number of frames written.

    Raises:
        OutputError: The file cannot be written, or exists and `overwrite` is false.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Callable[[bytes], object],
        fps: float | Fraction,
        sound_rate: int,
        overwrite: bool = False,
        threads: int = 1,
        marks: Marks | bool = True,
    ) -> None:
        self.frames, self.fps = 0, exact_rate(fps)
        self._target = target if callable(target) else check_output(target, overwrite, STREAM_ENDINGS)
        self._name = "standard output" if callable(target) else Path(target)
        self._rate, self._threads = sound_rate, threads
        self._resampler = StreamResampler(SOUND_RATE)
        self._container: OutputContainer | None = None
        self._picture: VideoStream | None = None
        self._sound: SoundTrack | None = None
        self._marks = marks if isinstance(marks, Marks) else Marks() if marks else None
        self._marker = None if self._marks is None else FrameMarker(self._marks, self.fps)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> StreamWriter:
        """Create the file."""
        # delay_moov: the header comes with the first fragment, when it is known how much of the sound the decoder is to skip.
        options = {
            "movflags": "+delay_moov+default_base_moof+frag_keyframe",
            "frag_duration": str(round(FRAGMENT_SECONDS * 1e6)),
            "flush_packets": "1",
        }
        with write_errors(self._name), contextlib.ExitStack() as stack:
            self._container = av.open(self._sink(stack), mode="w", format="mp4", container_options=options)
            if self._marks is not None:
                self._container.metadata.update(container_metadata(self._marks))
            self._open = stack.pop_all()
        return self

    def _sink(self, stack: contextlib.ExitStack) -> Any:
        """What PyAV writes to; a file that is to be signed is opened here, as its manifest is renewed in place."""
        if self._marks is None or not self._marks.manifest:
            return _Pipe(self._target) if callable(self._target) else f"file:{Path(self._target).absolute()}"
        if callable(self._target):
            manifest = GrowingManifest(self._target, None, self._marks, "stream.mp4")
        else:
            file = stack.enter_context(open(self._target, "wb", buffering=0))  # noqa: SIM115  # the stack closes it
            place = _Place(file)
            manifest = GrowingManifest(place.append, place.replace, self._marks, Path(self._target).name)
        stack.callback(manifest.close)
        return manifest

    def write(self, frame: npt.NDArray[np.uint8], sound: npt.NDArray[np.float32]) -> None:
        """Write a frame uint8 RGB [H, W, 3] and the sound float32 [n] that is heard while it is shown.

        Raises:
            VideoError: The array is no frame, or of another size than the first.
            OutputError: The disk is full, or the reader of a pipe is gone.
        """
        assert self._container is not None, "write() needs the block of `with StreamWriter(...)`"
        array = even_frame(frame)
        # PyAV and c2pa write through functions of Python
        with write_errors(self._name), interrupt_held():
            if self._picture is None:
                every = max(1, round(_KEYFRAME_SECONDS * self.fps))
                options = _X264 | {"g": str(every)}
                size = array.shape[1], array.shape[0]
                self._picture = add_picture(self._container, self.fps, size, options, self._threads)
                self._sound = SoundTrack(self._container)
            if array.shape[:2] != (self._picture.height, self._picture.width):
                raise VideoError(f"Frame {self.frames} is of another size than the first one; give frames of one size.")
            assert self._sound is not None
            marked = array if self._marker is None else self._marker(array)
            self._container.mux(self._picture.encode(encodable(marked, self.frames, self.fps)))
            self._sound.write(self._resampler.push(sound, self._rate))
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the last fragment; after an error as far as that is possible."""
        assert self._container is not None
        if kind is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, OutputError):
                self._finish()
            return
        if self._picture is None:
            self._open.close()
            raise VideoError(f"There is no frame to write to '{self._name}'; give at least one.")
        with write_errors(self._name):
            self._finish()

    def _finish(self) -> None:
        assert self._container is not None
        with interrupt_held(), self._open, contextlib.closing(self._container) as container:
            if self._picture is not None and self._sound is not None:
                container.mux(self._picture.encode(None))
                self._sound.write(self._resampler.finish())
                self._sound.finish()


class _Place:
    """A file that grows at its end, and in which bytes are replaced."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def append(self, data: bytes) -> None:
        """Write all of the bytes behind the last ones."""
        self._file.seek(0, os.SEEK_END)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) or 0 :]

    def replace(self, place: int, data: bytes) -> None:
        """Write bytes over those at a place."""
        self._file.seek(place)
        self._file.write(data)


class _Pipe:
    """What PyAV writes to when bytes only go forward."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        """Hand on some bytes."""
        self._write(data)
        return len(data)
