"""The result of a generation."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.media.audio import Audio
from fantasytalking.media.background_writer import BackgroundWriter
from fantasytalking.media.video import VideoWriter, write_video
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.files import check_output

__all__ = ["TalkingVideo", "VideoOutput", "collect_frames", "written"]


@dataclass(frozen=True)
class VideoOutput:
    """A file that a video is written to while it is decoded, which takes less time than `TalkingVideo.save` afterwards.

    Attributes:
        path: mp4, m4v, mov or mkv file.
        overwrite: Whether an existing file may be replaced.
        threads: Number of the video encoder's threads; 0 uses all cores. With 1, frames are decoded and encoded in turn, in one thread.

    Raises:
        OutputError: The file cannot be written, or exists and `overwrite` is false.
    """

    path: str | os.PathLike[str]
    overwrite: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        check_output(self.path, self.overwrite, ENDINGS)

    def open(self, fps: float | Fraction, audio: Audio) -> VideoWriter | BackgroundWriter:
        """A writer of the frames, for a `with` block, which completes the file or leaves nothing."""
        writer = VideoWriter(self.path, fps, audio, self.overwrite, threads=self.threads)
        return writer if self.threads == 1 else BackgroundWriter(writer)


@contextlib.contextmanager
def written(
    output: VideoOutput | None, fps: float | Fraction, audio: Audio, progress: Progress
) -> Iterator[Callable[[NDArray[np.uint8]], None] | None]:
    """Write the frames that the block makes; after it, the stage "writing" lasts until the encoder has given what it held back.

    Args:
        output: The file; None: none is written.
        fps: Frames per second.
        audio: Sound of the video.
        progress: Shows the stage.

    Yields:
        A function that takes each frame, uint8 [H, W, 3], or None.

    Raises:
        OutputError: The file cannot be written; nothing is left, as after any error in the block.
    """
    if output is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        writer = output.open(fps, audio)
        stack.enter_context(writer)
        yield writer.write
        with progress.stage("writing"):
            stack.close()


@dataclass(frozen=True)
class TalkingVideo:
    """A finished video in memory, with its sound.

    Attributes:
        frames: [F, H, W, 3] uint8 RGB, as long as the speech to a frame.
        fps: Frames per second.
        audio: Sound of the video.
        settings: Settings of the generation; with the same model, portrait and speech they give the same video again.
        notes: Sentences about what was changed or chosen on the way.
        seconds: Stage of the pipeline -> wall-clock seconds spent in it.
    """

    frames: NDArray[np.uint8]
    fps: float
    audio: Audio
    settings: GenerationSettings
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.frames) / self.fps

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write an H.264 video with its sound, to a temporary file that is then moved into place.

        Args:
            path: mp4, m4v, mov or mkv file.
            overwrite: Whether an existing file may be replaced.

        Raises:
            OutputError: The file cannot be written, or exists and `overwrite` is false.
        """
        return write_video(path, self.frames, self.fps, self.audio, overwrite)

    def summary(self) -> dict[str, Any]:
        """Everything except pixels and samples, as plain values for JSON."""
        count, height, width, _ = self.frames.shape
        return {
            "frames": count,
            "fps": self.fps,
            "width": width,
            "height": height,
            "duration": round(self.duration, 3),
            "settings": self.settings.to_dict(),
            "notes": list(self.notes),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def collect_frames(
    decoded: Iterable[NDArray[np.uint8]],
    count: int,
    advance: Callable[[], None],
    write: Callable[[NDArray[np.uint8]], None] | None,
) -> NDArray[np.uint8]:
    """Collect the first frames of a video.

    Args:
        decoded: Frames [H, W, 3], at least `count` of them; those after the end of the speech are not asked for.
        count: F.
        advance: Called after each frame.
        write: Is handed each frame as soon as it is there; None: nothing is.

    Returns:
        uint8 [F, H, W, 3].
    """
    video: NDArray[np.uint8] | None = None
    for index, frame in enumerate(itertools.islice(decoded, count)):
        if video is None:
            video = np.empty((count, *frame.shape), np.uint8)
        video[index] = frame
        if write is not None:
            write(video[index])
        advance()
    assert video is not None and index + 1 == count
    return video
