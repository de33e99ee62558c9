"""Facts about one video file that decide how it may be compared: length, size, frame rate, encoding, and where the picture is frozen.

They are read before anything is measured, since all rows of a clip are measured over the length of the shortest of its videos.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.preparation.preparation_settings import LONGEST_FREEZE
from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.media.audio import Audio, is_silent
from fantasytalking.media.coverage import PictureChanges, Stretch
from fantasytalking.media.encoding_facts import read_encoding
from fantasytalking.media.video import iterate_frames, probe_video

__all__ = ["ClipFacts", "frozen_in_window", "read_facts"]

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
        encoding: Codec, container and quality of the picture, such as `h264 in mp4, CRF 18`.
        kbps: Bit rate of the picture in kbit/s; 0 where it is not known.
    """

    frames: int
    seconds: float
    width: int
    height: int
    fps: float
    has_sound: bool
    frozen: float
    encoding: str = ""
    kbps: int = 0

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
        frozen = _frozen_under_sound(changes, Audio(sound, SAMPLE_RATE), count / protocol.fps)
    encoding = read_encoding(path)
    return ClipFacts(
        frames=count,
        seconds=info.seconds,
        width=info.width,
        height=info.height,
        fps=float(info.fps),
        has_sound=sound is not None,
        frozen=frozen,
        encoding=str(encoding),
        kbps=encoding.kbps,
    )


def frozen_in_window(path: Path, start: float, seconds: float, sound: Audio) -> float:
    """Seconds of a stretch of a video in which the picture is frozen for more than half a second while there is sound.

    Args:
        path: The video.
        start: Where the stretch begins, in seconds.
        seconds: Its length.
        sound: The sound of the stretch.

    Raises:
        VideoError: The video cannot be read.
    """
    changes, fps = PictureChanges(), float(probe_video(path).fps)
    frames = iterate_frames(path, None, max(1, round(seconds * fps)), start, longest_side=_DECODED)
    for index, frame in enumerate(frames):
        changes.push(index / fps, frame)
    return _frozen_under_sound(changes, sound, seconds)


def _frozen_under_sound(changes: PictureChanges, sound: Audio, end: float) -> float:
    return round(sum(_heard(part, sound) for part in changes.frozen(LONGEST_FREEZE, end)), 3)


def _heard(part: Stretch, sound: Audio) -> float:
    """Seconds of a stretch, 0 where it is silent: a picture may stand still at the end of a clip."""
    begin, end = (round(place * sound.sample_rate) for place in (part.start, part.end))
    return 0.0 if is_silent(sound.samples[begin:end], sound.sample_rate) else part.seconds
