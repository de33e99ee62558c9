"""What a generation returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["TalkingVideo"]


@dataclass(frozen=True)
class TalkingVideo:
    """A finished video in memory.

    Attributes:
        frames: [F, H, W, 3] uint8 RGB, as long as the speech to a frame.
        fps: Frames per second.
        audio: The speech that is heard.
        settings: Everything it was made with; with the same model, image and speech it makes the same video again.
        notes: What was changed or chosen on the way, one sentence each.
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
        """Write an H.264 video with its sound; a half-written file never remains.

        Args:
            path: mp4, m4v, mov or mkv file.
            overwrite: Whether an existing file may be replaced.

        Raises:
            OutputError: The file cannot be written, or exists and `overwrite` is false.
        """
        return write_video(path, self.frames, self.fps, self.audio, overwrite)

    def summary(self) -> dict[str, Any]:
        """Everything but the pixels and samples, as plain values for JSON."""
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
