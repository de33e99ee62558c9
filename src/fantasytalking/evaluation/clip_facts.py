"""Facts about one video file that decide how it may be compared: length, size, frame rate, and stretches in which the picture is frozen.

They are read before anything is measured, since all rows of a clip are measured over the length of the shortest of its videos.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.audio import is_silent
from fantasytalking.media.video import iterate_frames, probe_video

__all__ = ["ClipFacts", "frozen_stretches", "read_facts"]

_SMALL = 32
"""Longest side, in pixels, at which frames are compared: a mouth that moves in a still picture changes some of them."""
_DECODED = 256
"""Longest side at which frames are decoded for it; the decoder dithers what it shrinks further, by more than encoders do."""
_UNCHANGED = 2
"""Grey levels below which a frame is the one before: encoders change a frozen picture by 1, a person who sits still by 3 and more."""
_FROZEN_SECONDS = 0.6
"""Length from which a stretch counts as frozen; a slow frame rate repeats a frame for a tenth of that."""


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
    info = probe_video(path)
    decoded = iterate_frames(path, protocol.fps, protocol.max_frames, longest_side=_DECODED)
    frames = [_small(frame) for frame in decoded]
    if len(frames) < 2:
        raise InputError(
            f"The clip '{path}' has {len(frames)} frame at {protocol.fps:g} frames a second; give two or more."
        )
    sound = load_sound(path, len(frames) / protocol.fps)
    frozen = 0
    if sound is not None:
        frozen = sum(_heard(part, sound, protocol.fps) for part in frozen_stretches(frames, protocol.fps))
    return ClipFacts(
        frames=len(frames),
        seconds=info.seconds,
        width=info.width,
        height=info.height,
        fps=float(info.fps),
        has_sound=sound is not None,
        frozen=round(frozen / protocol.fps, 3),
    )


def _small(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    scale = _SMALL / max(frame.shape[:2])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    return np.asarray(cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def frozen_stretches(frames: list[NDArray[np.float32]], fps: float) -> list[slice]:
    """Stretches of 0.6 s and more in which the picture does not change.

    Args:
        frames: Frames float32 [H, W, 3] in grey levels, small ones, of one size.
        fps: Frames a second.

    Returns:
        Slices of frames; the first of each is the one that is held.
    """
    same = [float(np.abs(b - a).max()) < _UNCHANGED for a, b in itertools.pairwise(frames)]
    found, start = [], 0
    for held, run in itertools.groupby(same):
        stop = start + len(list(run))
        if held and (stop - start) / fps >= _FROZEN_SECONDS:
            found.append(slice(start, stop + 1))
        start = stop
    return found


def _heard(part: slice, sound: NDArray[np.float32], fps: float) -> int:
    """Number of frames of a stretch, 0 where it is silent: a picture may stand still at the end of a clip."""
    begin, end = (round(place / fps * SAMPLE_RATE) for place in (part.start, part.stop))
    return 0 if is_silent(sound[begin:end], SAMPLE_RATE) else part.stop - part.start
