"""Facts about one video file that decide how it may be compared: length, size, frame rate, and stretches in which the picture is frozen.

They are read before anything is measured, since all rows of a clip are measured over the length of the shortest of its videos.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.preparation.preparation_settings import LONGEST_FREEZE
from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.audio import is_silent
from fantasytalking.media.coverage import PictureChanges, Stretch
from fantasytalking.media.video import iterate_frames, probe_video

__all__ = ["ClipFacts", "read_facts"]

_DECODED = 256
"""Longest side at which frames are decoded; the decoder dithers what it shrinks further, by more than encoders do."""


@dataclass(frozen=True)
class ClipFacts:
    """Facts about a video file.

    Attributes:
        frames: Number of frames at the protocol's rate, up to its length.
        seconds: Length of the picture.
        width: Width in pixels.
        height: Height in pixels.
        fps: The file's own frame rate.
        has_sound: Whether it has a sound track that can be read.
        frozen: Seconds, of those looked at, in which the picture is frozen while there is sound.
    """

    frames: int
    seconds: float
    width: int
    height: int
    fps: float
    has_sound: bool
    frozen: float

    @property
    def longest_side(self) -> int:
        """The longer of width and height, in pixels."""
        return max(self.width, self.height)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ClipFacts | None:
        """Inverse of `to_dict`; None for anything else."""
        try:
            return cls(**raw)
        except TypeError:
            return None


def read_facts(path: Path, protocol: Protocol) -> ClipFacts:
    """Decode a video once, small, and describe it.

    Args:
        path: The video.
        protocol: Protocol with frame rate and length.

    Raises:
        VideoError: The video cannot be read.
        InputError: It is shorter than two frames.
    """
    info, changes, count = probe_video(path), PictureChanges(), 0
    for frame in iterate_frames(path, protocol.fps, protocol.max_frames, longest_side=_DECODED):
        changes.push(count / protocol.fps, frame)
        count += 1
    if count < 2:
        raise InputError(f"The clip '{path}' has {count} frame at {protocol.fps:g} frames a second; give two or more.")
    sound = load_sound(path, count / protocol.fps)
    frozen = 0.0
    if sound is not None:
        frozen = sum(_heard(part, sound) for part in changes.frozen(LONGEST_FREEZE, count / protocol.fps))
    return ClipFacts(
        frames=count,
        seconds=info.seconds,
        width=info.width,
        height=info.height,
        fps=float(info.fps),
        has_sound=sound is not None,
        frozen=round(frozen, 3),
    )


def _heard(part: Stretch, sound: NDArray[np.float32]) -> float:
    """Seconds of a stretch, 0 where it is silent: a picture may stand still at the end of a clip."""
    begin, end = (round(place * SAMPLE_RATE) for place in (part.start, part.end))
    return 0.0 if is_silent(sound[begin:end], SAMPLE_RATE) else part.seconds
