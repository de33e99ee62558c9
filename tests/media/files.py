"""Small media files for the tests, made with PyAV and Pillow only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt


def tone(seconds: float, rate: int = 16000, level: float = 0.3, pitch: float = 220.0) -> npt.NDArray[np.float32]:
    """A tone that swells twice a second, float32 [n]."""
    time = np.arange(round(seconds * rate)) / rate
    swell = 0.55 - 0.45 * np.cos(2.0 * np.pi * 2.0 * time)
    return (level * swell * np.sin(2.0 * np.pi * pitch * time)).astype(np.float32)


def write_sound(
    path: Path,
    channels: npt.NDArray[np.float32],
    rate: int = 16000,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    offset: float = 0.0,
) -> Path:
    """Writes float32 [c, n] with any codec, in the container of the suffix, `offset` seconds after its beginning."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        if codec in ("libopus", "vorbis"):
            stream.codec_context.options = {"strict": "experimental"}
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(offset * rate), Fraction(1, rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def numbered_frames(count: int, height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """Frames whose grey level tells their number: 20 + 8 k, uint8 [F, H, W, 3]."""
    levels = (20 + 8 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def frame_numbers(frames: npt.NDArray[Any]) -> list[int]:
    """The numbers that `numbered_frames` wrote into frames."""
    return [round((float(frame.mean()) - 20.0) / 8.0) for frame in frames]


def write_at_times(path: Path, frames: npt.NDArray[np.uint8], milliseconds: list[int], codec: str = "libx264") -> Path:
    """Writes frames shown at given times, so with a variable rate."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30, options={"bf": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for array, time in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def join(path: Path, picture: Path, sound: Path, lost: tuple[float, float] = (0.0, 0.0)) -> Path:
    """Puts the picture of one file and the sound of another into one, with their own times; sound of some seconds is lost."""
    with av.open(str(picture)) as one, av.open(str(sound)) as two, av.open(str(path), "w") as target:
        streams = [
            (source, source.streams.video[0] if source is one else source.streams.audio[0]) for source in (one, two)
        ]
        pairs = [(source, stream, target.add_stream_from_template(stream)) for source, stream in streams]
        for source, stream, copy in pairs:
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                if source is two and lost[0] <= float(packet.pts * packet.time_base) < lost[1]:
                    continue
                packet.stream = copy
                target.mux(packet)
    return path


def moving_bar(count: int, colour: tuple[int, int, int] = (200, 40, 40)) -> npt.NDArray[np.uint8]:
    """Frames [F, 96, 128, 3] of a plain picture with a bar that moves by a pixel a frame."""
    pictures = np.empty((count, 96, 128, 3), np.uint8)
    pictures[:] = colour
    for index, picture in enumerate(pictures):
        picture[40:50, index % 100 : index % 100 + 20] = 255 - np.array(colour)
    return pictures


def left_over(folder: Path) -> list[str]:
    """Names of all files in a folder, hidden ones included."""
    return sorted(entry.name for entry in folder.iterdir())
