"""The result of a generation."""

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
