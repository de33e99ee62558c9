"""Decoded sound of an open file, with what is missing in its middle.

Dimensions: n samples, c channels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer

from fantasytalking.errors import AudioError

__all__ = [
    "SMALLEST_GAP_SECONDS",
    "WITHOUT_SPEECH",
    "Chunk",
    "Gap",
    "planes_of",
    "sound_chunks",
    "sound_frames",
    "undecodable",
    "warn_of_gaps",
]

Samples = npt.NDArray[np.float32]

# A damaged timestamp may claim hours; a real pause in a recording is shorter than this.
_LONGEST_GAP_SECONDS = 30.0
SMALLEST_GAP_SECONDS = 0.05
NOTED_GAP_SECONDS = 0.3
"""Gaps from this length on are told."""
_MOST_FAILURES = 100
# Of 5.1 and 7.1 sound the speech is in the centre, and the low-frequency channel holds none.
_CHANNEL_WEIGHTS = {"FC": 1.0, "LFE": 0.0, "LFE2": 0.0}
WITHOUT_SPEECH = frozenset(name for name, weight in _CHANNEL_WEIGHTS.items() if not weight)
_SIDE_WEIGHT = 0.5


@dataclass(frozen=True)
class Gap:
    """A stretch that a file has no sound for, between two that it has.

    Attributes:
        start: Where it begins, in seconds after second 0.
        end: Where it ends.
        is_filled: Whether it is silent in what is read; else it is left out.
    """

    start: float
    end: float
    is_filled: bool


@dataclass(frozen=True)
class Chunk:
    """A piece of decoded sound.

    Attributes:
        planes: [c, n] in -1..1.
        names: Names of the channels.
    """

    planes: Samples
    names: tuple[str, ...]

    def mixed(self) -> Samples:
        """The channels as one [n], weighted so that the speech comes first."""
        if len(self.names) < 3:
            result: Samples = self.planes.mean(axis=0, dtype=np.float32)
            return result
        weights = np.array([_CHANNEL_WEIGHTS.get(name, _SIDE_WEIGHT) for name in self.names], np.float32)
        mix: Samples = weights @ self.planes / max(float(weights.sum()), 1e-6)
        return mix.astype(np.float32)


def sound_chunks(
    container: InputContainer,
    stream: AudioStream,
    path: str | os.PathLike[str],
    origin: float | None,
    begin: int,
    gaps: list[Gap],
) -> Iterator[tuple[Chunk, int]]:
    """Decode to float planes; gaps in the timestamps are filled by silence, and broken packets are skipped.

    Args:
        container: The open file.
        stream: Its sound.
        path: Its path, for messages.
        origin: Second 0 on the clock of the file, or None where it has no clock.
        begin: Second from which on the file is decoded.
        gaps: Gets the gaps that are found.

    Yields:
        A piece, and its sample rate.

    Raises:
        AudioError: Nothing can be decoded.
    """
    expected = None if origin is None else origin + begin
    decoded = 0
    for frame in sound_frames(container, stream):
        planes = planes_of(frame)
        if planes.size == 0:
            continue
        names = tuple(channel.name for channel in frame.layout.channels)
        if frame.time is not None:
            expected = frame.time if expected is None else expected
            late = frame.time - expected
            if decoded == 0 and late < 0.0:
                planes = planes[:, min(planes.shape[1], round(-late * frame.sample_rate)) :]
                late = 0.0
                if planes.shape[1] == 0:
                    continue
            if decoded and origin is not None and late > NOTED_GAP_SECONDS:
                gaps.append(Gap(expected - origin, frame.time - origin, late < _LONGEST_GAP_SECONDS))
            smallest = 1.0 / frame.sample_rate if decoded == 0 else SMALLEST_GAP_SECONDS
            if smallest < late < _LONGEST_GAP_SECONDS:
                silence = np.zeros((len(planes), round(late * frame.sample_rate)), np.float32)
                planes = np.concatenate([silence, planes], axis=1)
            elif late >= _LONGEST_GAP_SECONDS or late < -SMALLEST_GAP_SECONDS:
                expected = frame.time
        decoded += 1
        if expected is not None:
            expected += planes.shape[1] / frame.sample_rate
        yield Chunk(planes, names), frame.sample_rate
    if decoded == 0:
        raise undecodable(path)


def warn_of_gaps(path: str | os.PathLike[str], gaps: Sequence[Gap]) -> None:
    """Tell of sound that is missing in the middle of a file.

    Args:
        path: The file.
        gaps: What is missing.
    """
    for filled, then in ((True, "and is silent there"), (False, "which is left out")):
        found = [f"{gap.start:.1f} to {gap.end:.1f}" for gap in gaps if gap.is_filled == filled]
        if found:
            more = f" and {len(found) - 5} more times" if len(found) > 5 else ""
            text = f"has no sound that can be read from second {', '.join(found[:5])}{more}, {then}"
            warnings.warn(f"The audio '{Path(path)}' {text}.", stacklevel=4)


def undecodable(path: str | os.PathLike[str]) -> AudioError:
    """The error of a file of which no sound can be decoded."""
    return AudioError(f"The sound of '{Path(path)}' cannot be decoded; the file is corrupt, give another copy.")


def sound_frames(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Decoded frames of sound, as far as they can be read."""
    packets, failures = container.demux(stream), 0
    while failures < _MOST_FAILURES:
        try:
            packet = next(packets)
            failures = 0
        except StopIteration:
            return
        except av.error.FFmpegError:
            # At the end of a truncated file this is all. In the middle of a damaged one (Ogg) the next packets may be found behind it.
            packets, failures = container.demux(stream), failures + 1
            continue
        try:
            yield from (frame for frame in packet.decode() if isinstance(frame, av.AudioFrame))
        except av.error.FFmpegError:
            continue


def planes_of(frame: av.AudioFrame) -> Samples:
    """A decoded frame as float32 [c, n] in -1..1, whatever its sample format."""
    array: npt.NDArray[Any] = frame.to_ndarray()
    planes = array if frame.format.is_planar else array.reshape(-1, len(frame.layout.channels)).T
    if array.dtype == np.uint8:
        return (planes.astype(np.float32) - 128.0) / 128.0
    if array.dtype.kind == "i":
        return planes.astype(np.float32) / np.float32(2 ** (8 * array.dtype.itemsize - 1))
    return np.nan_to_num(planes.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
