"""Frames of video files, resampled by time.

Dimensions: F frames, H height, W width. Second 0 is the first video frame. Frame rates are exact fractions.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from fantasytalking.errors import VideoError
from fantasytalking.media.container import SCALING, open_media, picture_stream
from fantasytalking.media.video_writer import VideoWriter, exact_rate, write_video
from fantasytalking.system.files import existing_file

__all__ = ["VideoInfo", "VideoWriter", "exact_rate", "iterate_frames", "probe_video", "read_frames", "write_video"]

Frame = npt.NDArray[np.uint8]

_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file.

    Attributes:
        frames: Number of frames that `read_frames` gives at the file's own rate.
        fps: Frames a second, exact; the mean one where the rate varies.
        width: Pixels, after rotation and with square pixels.
        height: Pixels, after rotation.
        seconds: Duration of the picture.
        has_audio: Whether there is a sound track.
    """

    frames: int
    fps: Fraction
    width: int
    height: int
    seconds: float
    has_audio: bool


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Read size, rate and exact duration of a video; only its first frame is decoded.

    Args:
        path: A video file.

    Raises:
        VideoError: The file is missing, empty, corrupt or has no picture.
    """
    timeline = _timeline(path)
    with open_media(path, "video", VideoError) as container:
        stream = _video_stream(container, path)
        first = next(_decoded(container, stream), None)
        if first is None:
            raise _undecodable(path)
        height, width = _to_array(first, _aspect(stream)).shape[:2]
        has_audio = bool(container.streams.audio)
    return VideoInfo(timeline.frames, timeline.rate, width, height, float(timeline.frames / timeline.rate), has_audio)


def read_frames(
    path: str | os.PathLike[str],
    fps: float | Fraction | None = None,
    max_frames: int | None = None,
    start: float = 0.0,
) -> tuple[npt.NDArray[np.uint8], Fraction]:
    """Read a video into memory, at its own rate or another one.

    Frame k is the source frame nearest to `start + k / fps`, so variable rates become constant ones and sound stays in
    step.

    Args:
        path: A video file.
        fps: Frames a second of the result; None keeps the file's (mean) rate.
        max_frames: Largest number of frames; None reads to the end.
        start: Seconds to skip.

    Returns:
        uint8 RGB [F, H, W, 3], upright and with square pixels, and the exact rate of the result.

    Raises:
        VideoError: The file is missing, empty, corrupt, has no picture, or ends before `start`.
    """
    timeline = _timeline(path)
    rate = timeline.rate if fps is None else exact_rate(fps)
    count = timeline.count(rate, max_frames, start)
    if count == 0:
        raise VideoError(
            f"The video '{Path(path)}' lasts {timeline.seconds:.2f} s and nothing of it is left after second "
            f"{start:g} with max_frames={max_frames}; ask for one frame at least, from an earlier start."
        )
    result: npt.NDArray[np.uint8] | None = None
    done = 0
    for frame in _resampled(path, timeline, rate, count, start):
        # One block for all: stacking a list of frames would need the memory twice.
        result = np.empty((count, *frame.shape), np.uint8) if result is None else result
        result[done] = frame
        done += 1
    if result is None:
        raise _undecodable(path)
    return result[:done], rate


def iterate_frames(
    path: str | os.PathLike[str],
    fps: float | Fraction | None = None,
    max_frames: int | None = None,
    start: float = 0.0,
    longest_side: int | None = None,
    seen: Callable[[float, Frame], None] | None = None,
) -> Iterator[Frame]:
    """Like `read_frames`, but one frame at a time, for videos that do not fit into memory.

    Args:
        path: A video file.
        fps: Frames a second of the result; None keeps the file's (mean) rate.
        max_frames: Largest number of frames; None reads to the end.
        start: Seconds to skip.
        longest_side: Larger frames are shrunk to it, in pixels, while they are decoded, which is fast; None keeps their size.
        seen: Called with time and picture of every source frame that is decoded, also of those that are not given.

    Yields:
        uint8 RGB [H, W, 3], upright and with square pixels.

    Raises:
        VideoError: The file is missing, empty, corrupt or has no picture.
    """
    timeline = _timeline(path)
    rate = timeline.rate if fps is None else exact_rate(fps)
    yield from _resampled(path, timeline, rate, timeline.count(rate, max_frames, start), start, longest_side, seen)


@dataclass(frozen=True)
class _Timeline:
    """Display times of the frames, from the times of all packets, without decoding any.

    Attributes:
        origin: Time of the first frame in seconds; second 0 of this module.
        rate: Frames a second, the mean one where it varies.
        frames: Number of frames at that rate.
        timed: False for raw streams, which carry no times.
    """

    origin: float
    rate: Fraction
    frames: int
    timed: bool = True

    @property
    def seconds(self) -> float:
        return float(self.frames / self.rate)

    def count(self, rate: Fraction, maximum: int | None, start: float) -> int:
        """Number of frames of a grid of another rate that lie within the video."""
        # 3.0000001 frames are three: what is below a ten thousandth of a frame is rounding.
        within = max(0, math.ceil((self.seconds - start) * float(rate) - 1e-4))
        return within if maximum is None else max(0, min(within, maximum))


def _timeline(path: str | os.PathLike[str]) -> _Timeline:
    file = existing_file(path, "video", VideoError)
    state = file.stat()
    return _read_timeline(file, state.st_mtime_ns, state.st_size)


# kept, because many clips are cut from one long video
@functools.lru_cache(maxsize=16)
def _read_timeline(path: Path, modified: int, size: int) -> _Timeline:
    with open_media(path, "video", VideoError) as container:
        stream = _video_stream(container, path)
        claims = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate is not None and 0 < rate <= 1000]
        nominal = Fraction(claims[0]) if claims else _FALLBACK_RATE
        packets = [packet for packet in _packets(container, stream) if packet.size > 0 and not packet.is_discard]
        ticks = sorted(packet.pts for packet in packets if packet.pts is not None)
        base = stream.time_base
    if not packets:
        raise _undecodable(path)
    if base is None or len(ticks) < len(packets):
        return _Timeline(0.0, nominal, len(packets), timed=False)
    rate = _rate_of((np.array(ticks, np.float64) - ticks[0]) * float(base), nominal)
    frames = round((ticks[-1] - ticks[0]) * base * rate) + 1
    return _Timeline(float(ticks[0] * base), rate, frames)


def _rate_of(times: npt.NDArray[np.float64], nominal: Fraction) -> Fraction:
    """The rate at which frame k is shown near `k / rate`, or else the one of most intervals, or else the mean one."""
    if len(times) < 2 or times[-1] <= 0.0:
        return nominal
    order = np.arange(len(times))
    mean = Fraction((len(times) - 1) / times[-1]).limit_denominator(1001)
    intervals = np.diff(times)
    median = float(np.median(intervals))
    regular = median > 0.0 and float((np.abs(intervals - median) < 0.1 * median).mean()) > 0.8
    usual = nominal
    if regular and abs(float(nominal) * median - 1.0) > 0.1:
        usual = exact_rate(min(1000.0, 1.0 / median))
    if regular or np.abs(times * float(nominal) - order).max() < 0.5:
        return usual
    return mean if 0 < mean <= 1000 else nominal


def _resampled(
    path: str | os.PathLike[str],
    timeline: _Timeline,
    rate: Fraction,
    count: int,
    start: float,
    longest_side: int | None = None,
    seen: Callable[[float, Frame], None] | None = None,
) -> Iterator[Frame]:
    """The source frames nearest to `count` times of the grid, in order."""
    done = 0
    before: tuple[float, av.VideoFrame] | None = None
    array: Frame | None = None
    with open_media(path, "video", VideoError) as container:
        stream = _video_stream(container, path)
        aspect = _aspect(stream)
        if start > 2.0 and timeline.timed and stream.time_base is not None:
            # Two seconds early, because some containers land on the wrong side of a keyframe.
            container.seek(int((timeline.origin + start - 2.0) / stream.time_base), stream=stream, backward=True)
        for time, frame in itertools.chain(_timed(container, stream, timeline), [(math.inf, None)]):
            while before is not None and done < count and start + float(done / rate) < (before[0] + time) / 2.0:
                array = _to_array(before[1], aspect, longest_side) if array is None else array
                yield array
                done += 1
            if done >= count or frame is None:
                return
            before, array = (time, frame), None
            if seen is not None:
                array = _to_array(frame, aspect, longest_side)
                seen(time, array)


def _timed(
    container: InputContainer, stream: VideoStream, timeline: _Timeline
) -> Iterator[tuple[float, av.VideoFrame]]:
    for index, frame in enumerate(_decoded(container, stream)):
        known = timeline.timed and frame.time is not None
        yield (frame.time - timeline.origin if known else index / float(timeline.rate)), frame


def _video_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    stream = picture_stream(container)
    if stream is None:
        what = "only sound" if container.streams.audio else "no picture"
        raise VideoError(f"The file '{Path(path)}' has {what}; give a video such as mp4, mov, mkv or webm.")
    if stream.codec_context is None:
        raise VideoError(f"The picture of '{Path(path)}' has an unknown codec; convert it to H.264 in mp4.")
    stream.thread_type = "AUTO"
    return stream


def _undecodable(path: str | os.PathLike[str]) -> VideoError:
    return VideoError(f"The picture of '{Path(path)}' cannot be decoded; the file is corrupt, give another copy.")


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.error.FFmpegError):
            # A truncated file ends in an error of the demuxer: what was read before it is good.
            return


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    for packet in _packets(container, stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from (frame for frame in frames if isinstance(frame, av.VideoFrame))


def _aspect(stream: VideoStream) -> float:
    """Width of a stored pixel as a multiple of its height."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10.0 else 1.0


def _to_array(frame: av.VideoFrame, aspect: float, longest_side: int | None = None) -> Frame:
    """A decoded frame as RGB, with square pixels and turned upright."""
    width, height, scaling = max(1, round(frame.width * aspect)), frame.height, SCALING
    if longest_side is not None and max(width, height) > longest_side:
        shrink = longest_side / max(width, height)
        # averaged, and less exact: for frames that are looked at and not kept
        width, height, scaling = max(1, round(shrink * width)), max(1, round(shrink * height)), int(Interpolation.AREA)
    array: npt.NDArray[Any] = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation=scaling)
    assert array.dtype == np.uint8
    # A sequence of side data, which PyAV's own annotations call a mapping of names.
    data: Any
    for data in frame.side_data:
        if data.type == SideDataType.DISPLAYMATRIX:
            array = _upright(array, np.frombuffer(bytes(data), np.int32))
    return np.ascontiguousarray(array)


def _upright(array: Frame, matrix: npt.NDArray[np.int32]) -> Frame:
    """Turn and mirrors as the display matrix says: x' = a x + c y, y' = b x + d y, y downwards."""
    a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
    if abs(a) + abs(d) < abs(b) + abs(c):
        array, a, d = array.swapaxes(0, 1), c, b
    return array[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
