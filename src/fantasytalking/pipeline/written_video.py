"""A video that was written while it was made, and of which nothing stays in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["WrittenVideo"]


@dataclass(frozen=True)
class WrittenVideo:
    """A finished video, in its file.

    Attributes:
        path: The file.
        frames: Number of frames.
        fps: Frames per second.
        width: Pixels.
        height: Pixels.
        settings: Settings of the generation.
        notes: Sentences about what was found, changed or chosen on the way.
        seconds: Stage of the pipeline -> wall-clock seconds spent in it.
    """

    path: Path
    frames: int
    fps: float
    width: int
    height: int
    settings: GenerationSettings
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        frames: int,
        fps: float,
        size: tuple[int, int],
        settings: GenerationSettings,
        progress: Progress,
    ) -> WrittenVideo:
        """The record of a run; the other arguments are attributes.

        Args:
            path: The file.
            frames: Number of frames.
            fps: Frames per second.
            size: (H, W) of the frames that were written, whose odd sides the writer makes even.
            settings: Settings of the generation.
            progress: Kept notes and times.
        """
        height, width = (side + side % 2 for side in size)
        return cls(Path(path), frames, fps, width, height, settings, tuple(progress.notes), progress.seconds)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps

    def summary(self) -> dict[str, Any]:
        """Everything as plain values for JSON, under the names of `TalkingVideo.summary`."""
        return {
            "frames": self.frames,
            "fps": self.fps,
            "width": self.width,
            "height": self.height,
            "duration": round(self.duration, 3),
            "settings": self.settings.to_dict(),
            "notes": list(self.notes),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }
