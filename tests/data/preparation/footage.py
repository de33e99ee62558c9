"""Videos of a talking face with known faults, made from a clip of the embedded model."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.preparation.clip_records import ClipSpan, SourceVideo
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames, write_video

RATE = 16000
FRAME = RATE // 25
"""Samples to a frame."""

Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]


def source(path: Path, **changes: str) -> SourceVideo:
    """A video with provenance."""
    row = {"identity": "someone", "kind": "generated", "split": "train", "source": "test", "terms": "own"} | changes
    return SourceVideo(str(path), path.stem, **row)


def whole(path: Path, seconds: float = 2.6) -> ClipSpan:
    """All of a video as one span."""
    return ClipSpan(source(path), 0, 0.0, seconds)


def load(path: Path) -> tuple[Frames, Sound]:
    """Frames [65, H, W, 3] and sound, as long, of a clip of 2.6 s."""
    frames, _ = read_frames(path)
    sound = np.zeros(len(frames) * FRAME, np.float32)
    found = load_audio(path).samples[: len(sound)]
    sound[: len(found)] = found
    return frames, sound


def write(path: Path, frames: Frames, sound: Sound | None) -> Path:
    """A video at 25 frames a second."""
    return write_video(path, frames, 25, None if sound is None else Audio(sound, RATE), preset="ultrafast")


def early(sound: Sound, frames: int) -> Sound:
    """Sound that comes so many frames earlier (negative: later); silence is put where there is none."""
    moved = np.zeros_like(sound)
    samples = abs(frames) * FRAME
    if frames > 0:
        moved[:-samples] = sound[samples:]
    else:
        moved[samples:] = sound[:-samples]
    return moved


def decoded_sound(flac: bytes) -> Sound:
    """Samples of a FLAC file."""
    with av.open(io.BytesIO(flac), "r") as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(parts, 1)[0].astype(np.float32) / 2**15


def decoded_frames(mp4: bytes) -> Frames:
    """Frames of an mp4."""
    with av.open(io.BytesIO(mp4), "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def likeness(a: Sound, b: Sound) -> float:
    """Correlation of two sounds of nearly the same length."""
    count = min(len(a), len(b))
    return float(np.corrcoef(a[:count], b[:count])[0, 1])
