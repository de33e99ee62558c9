"""The result of a generation."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.media.audio import Audio
from fantasytalking.media.background_writer import BackgroundWriter
from fantasytalking.media.video import VideoWriter, write_video
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.media.video_writer import QUICK_CRF, QUICK_PRESET
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.provenance.marks import Marks
from fantasytalking.system.files import check_output

__all__ = ["FrameSource", "TalkingVideo", "VideoOutput", "take_frames", "written"]


@dataclass(frozen=True)
class VideoOutput:
    """A file that a video is written to while it is decoded, which takes less time than `TalkingVideo.save` afterwards.

    Attributes:
        path: mp4, m4v, mov or mkv file.
        overwrite: Whether an existing file may be replaced.
        threads: Number of the video encoder's threads; 0 uses all cores. With 1, frames are decoded and encoded in turn, in one thread.
        crf: Quality of H.264, see `VideoWriter`.
        preset: Speed of x264.
        watch: Called with each frame that has been written, in the thread that writes; None: nobody watches.

    Raises:
        OutputError: The file cannot be written, or exists and `overwrite` is false.
    """

    path: str | os.PathLike[str]
    overwrite: bool = False
    threads: int = 0
    crf: int = QUICK_CRF
    preset: str = QUICK_PRESET
    watch: Callable[[NDArray[np.uint8]], object] | None = None

    def __post_init__(self) -> None:
        check_output(self.path, self.overwrite, ENDINGS)

    @classmethod
    def of(cls, output: str | os.PathLike[str] | VideoOutput) -> VideoOutput:
        """What a call was given as its output: a path stands for a file that must not exist yet."""
        return output if isinstance(output, cls) else cls(output)  # type: ignore[arg-type]

    def open(self, fps: float | Fraction, audio: Audio, marks: Marks | None = None) -> VideoWriter | BackgroundWriter:
        """A writer of the frames, for a `with` block, which completes the file or leaves nothing."""
        return self.in_background(self.writer(self.path, fps, audio, self.overwrite, marks))

    def writer(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction,
        audio: Audio | None,
        overwrite: bool,
        marks: Marks | None,
    ) -> VideoWriter:
        """A writer in this thread, for this file or a part of it."""
        return VideoWriter(
            path, fps, audio, overwrite, self.crf, self.preset, threads=self.threads, marks=marks, watch=self.watch
        )

    def in_background(self, writer: VideoWriter) -> VideoWriter | BackgroundWriter:
        """A writer that works in a thread of its own, unless one thread is all there is."""
        return writer if self.threads == 1 else BackgroundWriter(writer)


@contextlib.contextmanager
def written(
    output: VideoOutput | None, fps: float | Fraction, audio: Audio, progress: Progress, marks: Marks | None = None
) -> Iterator[Callable[[NDArray[np.uint8]], None] | None]:
    """Write the frames that the block makes; after it, the stage "writing" lasts until the encoder has given what it held back.

    Args:
        output: The file; None: none is written.
        fps: Frames per second.
        audio: Sound of the video.
        progress: Shows the stage.
        marks: What the video is marked with.

    Yields:
        A function that takes each frame, uint8 [H, W, 3], or None.

    Raises:
        OutputError: The file cannot be written; nothing is left, as after any error in the block.
    """
    if output is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        writer = output.open(fps, audio, marks)
        stack.enter_context(writer)
        yield writer.write
        with progress.stage("writing"):
            stack.close()


@dataclass(frozen=True)
class FrameSource:
    """Where the frames of a video come from, as often as they are asked for.

    Attributes:
        count: Number of frames.
        size: (H, W) in pixels.
        make: Gives the frames, uint8 [H, W, 3] each: those in memory, decoded again from latents, read from the file that was written, or
            generated again.
    """

    count: int
    size: tuple[int, int]
    make: Callable[[], Iterable[NDArray[np.uint8]]]

    @classmethod
    def of(cls, frames: NDArray[np.uint8]) -> FrameSource:
        """Frames [F, H, W, 3] in memory."""
        return cls(len(frames), (frames.shape[1], frames.shape[2]), lambda: iter(frames))


@dataclass(frozen=True)
class TalkingVideo:
    """A video with its sound. Iterating over it gives its frames one at a time, without holding them.

    The frames of a clip that the model samples at once are in memory, or decoded when asked for if it was written to a file. Those of
    a longer video are read from the file it was written to; without one they are generated while they are asked for, each time again.

    Attributes:
        source: Where the frames come from.
        fps: Frames per second.
        audio: Sound of the video.
        settings: Settings of the generation; with the same model, portrait and speech they give the same video again.
        notes: Sentences about what was changed or chosen on the way.
        seconds: Stage of the pipeline -> wall-clock seconds spent in it.
        seams: Numbers of the frames with which the segments of a long video begin, except the first one.
        marks: What files of it are marked with. The frames that it gives are not marked: arrays are no files.
    """

    source: FrameSource
    fps: float
    audio: Audio
    settings: GenerationSettings
    notes: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    seams: Sequence[int] = ()
    marks: Marks | None = None

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The frames, uint8 RGB [H, W, 3] each."""
        if "frames" in self.__dict__:
            return iter(self.frames)
        return iter(self.source.make())

    def __len__(self) -> int:
        """Number of frames: the length of the speech to a frame."""
        return self.source.count

    @cached_property
    def frames(self) -> NDArray[np.uint8]:
        """All frames at once, [F, H, W, 3] uint8 RGB; they stay in memory. Iterate over a long video instead."""
        frames = np.empty((self.source.count, *self.source.size, 3), np.uint8)
        count = 0
        for frame in self.source.make():
            frames[count] = frame
            count += 1
        return frames[:count]

    def last_frames(self, count: int) -> NDArray[np.uint8]:
        """The last frames, [count, H, W, 3] uint8, or all of a shorter video."""
        return np.stack(list(deque(self, count)))

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write an H.264 video with its sound and marks, to a temporary file that is then moved into place.

        Args:
            path: mp4, m4v, mov or mkv file.
            overwrite: Whether an existing file may be replaced.

        Raises:
            OutputError: The file cannot be written, or exists and `overwrite` is false.
        """
        check_output(path, overwrite, ENDINGS)
        return write_video(path, self, self.fps, self.audio, overwrite, QUICK_CRF, QUICK_PRESET, marks=self.marks)

    def summary(self) -> dict[str, Any]:
        """Everything except pixels and samples, as plain values for JSON."""
        height, width = self.source.size
        return {
            "frames": len(self),
            "fps": self.fps,
            "width": width,
            "height": height,
            "duration": round(self.duration, 3),
            "settings": self.settings.to_dict(),
            "notes": list(self.notes),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        } | ({"seams": list(self.seams)} if self.seams else {})


def take_frames(
    decoded: Iterable[NDArray[np.uint8]],
    count: int,
    advance: Callable[[], None],
    write: Callable[[NDArray[np.uint8]], None],
) -> None:
    """Hand on the first frames of a video.

    Args:
        decoded: Frames [H, W, 3], at least `count` of them; those after the end of the speech are not asked for.
        count: F.
        advance: Called after each frame.
        write: Is handed each frame as soon as it is there.
    """
    done = 0
    for frame in itertools.islice(decoded, count):
        write(frame)
        advance()
        done += 1
    assert done == count
