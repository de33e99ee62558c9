"""Speech from any file that holds sound: decoded, mixed to mono, resampled in one streaming pass, checked.

Dimensions: n samples, c channels.
"""

from __future__ import annotations

import numbers
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer

from fantasytalking.errors import AudioError
from fantasytalking.media.container import open_media, picture_stream
from fantasytalking.media.loudness import SILENCE_DBFS, is_silent, normalise_loudness
from fantasytalking.media.python_inputs import checked_rate
from fantasytalking.media.resampling import StreamResampler
from fantasytalking.media.sound_claims import claims_of, origin_of, warn_of_loss
from fantasytalking.media.sound_frames import (
    SMALLEST_GAP_SECONDS,
    WITHOUT_SPEECH,
    Gap,
    planes_of,
    sound_chunks,
    sound_frames,
    undecodable,
    warn_of_gaps,
)
from fantasytalking.media.spooled_sound import Spool, pieces_of

__all__ = ["Audio", "fit_length", "is_silent", "load_audio", "normalise_loudness", "sound_times"]

Samples = npt.NDArray[np.float32]

# Decoded before what is wanted, so that decoder and resampler have settled.
_SEEK_MARGIN_SECONDS = 3
# Power of the mix over that of the loudest channel below which the channels count as cancelling each other out. Two channels that
# have nothing in common reach 0.5, and 0.25 if one is empty; speech in opposite phase over a background that both share is below 0.2 if
# the background is 6 dB weaker. The weights of surround sound alone make the mix weaker, so there only a loss of nearly all counts.
_CANCELLED_STEREO, _CANCELLED_SURROUND = 0.2, 0.01


@dataclass(frozen=True)
class Audio:
    """Mono sound.

    Attributes:
        samples: float32 [n], in -1..1.
        sample_rate: Samples a second.
    """

    samples: Samples
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def fit_length(samples: Samples, count: int) -> Samples:
    """Sound [n] cut, or continued with silence, to [count]; a copy."""
    kept = samples[:count]
    return np.pad(kept, (0, count - len(kept)))


def load_audio(
    path: str | os.PathLike[str],
    sample_rate: int = 16000,
    max_seconds: float | None = None,
    min_seconds: float = 0.2,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    allow_silent: bool = False,
    from_picture: bool = True,
) -> Audio:
    """Read the sound of an audio or video file as mono.

    Second 0 is the first video frame where the file has a picture (so that a face and its speech stay together),
    otherwise the first sample. Channels are mixed with the centre of surround sound in front; where the channels cancel
    each other out, the loudest one is taken.

    Args:
        path: A sound or video file of any container and codec that PyAV reads.
        sample_rate: Samples a second of the result.
        max_seconds: Longest accepted duration; None accepts any. Longer files are an error, never cut silently.
        min_seconds: Shortest accepted duration.
        start: Seconds to skip at the beginning.
        seconds: Read only so many seconds from `start` on, an explicit cut; None reads to the end.
        allow_silent: Accept a file without audible sound.
        from_picture: Whether a picture counts; False takes the sound alone, all of it from its first sample on, and tells when a file
            has several sound tracks.

    Returns:
        float32 mono samples in -1..1 (scaled down if the file exceeds that) at `sample_rate`; very long ones lie in a temporary file.

    Raises:
        AudioError: The file is missing, empty, not media, without sound, corrupt, silent, too short or too long.
    """
    checked_rate(sample_rate)
    given = {"max_seconds": max_seconds, "min_seconds": min_seconds, "start": start, "seconds": seconds}
    for name, value in given.items():
        if value is not None and (not isinstance(value, numbers.Real) or not value >= 0):
            raise AudioError(f"{name} must be a number of seconds of at least 0, not {value!r}.")
    limit = None if max_seconds is None else max_seconds + start
    window = _Window(sample_rate, start, seconds, limit, from_picture)
    samples, channel = _read(path, window, None)
    if channel is not None:
        samples, _ = _read(path, window, channel)
    file = Path(path)
    if len(samples) < min_seconds * sample_rate:
        raise AudioError(
            f"The audio '{file}' lasts {len(samples) / sample_rate:.2f} s{f' after second {start:g}' if start else ''} "
            f"and at least {min_seconds:g} s are needed; give a longer recording."
        )
    if not allow_silent and is_silent(samples, sample_rate):
        raise AudioError(
            f"The audio '{file}' is silent (nothing above {SILENCE_DBFS:g} dBFS); check that the right file or "
            "track was exported."
        )
    return Audio(samples, sample_rate)


def sound_times(container: InputContainer, path: str | os.PathLike[str]) -> Iterator[tuple[float, float, float]]:
    """Start, end and peak of each decoded piece of sound: seconds on the clock of `load_audio`, and 0..1; none is before second 0.

    Args:
        container: The open file, not read yet.
        path: Its path, for messages.

    Raises:
        AudioError: There is no sound, or nothing of it can be decoded.
    """
    stream = _sound_stream(container, path)
    origin = origin_of(container, stream, from_picture=True)
    last = claims_of(container, stream, path, origin).exact_end
    end, decoded = 0.0, False
    for frame in sound_frames(container, stream):
        # raw streams have no times, their pieces follow each other
        start = end if frame.time is None or origin is None else frame.time - origin
        end, decoded = start + frame.samples / frame.sample_rate, True
        heard = max(0.0, start), end if last is None else min(end, last)
        if heard[0] < heard[1]:
            yield *heard, float(np.abs(planes_of(frame)).max(initial=0.0))
    if not decoded:
        raise undecodable(path)


@dataclass(frozen=True)
class _Window:
    """The part of the sound that is read, in seconds from the first video frame, if it counts, or sample."""

    sample_rate: int
    start: float
    seconds: float | None
    limit: float | None
    from_picture: bool

    @property
    def first(self) -> int:
        return round(self.start * self.sample_rate)

    @property
    def last(self) -> int | None:
        return None if self.seconds is None else self.first + round(self.seconds * self.sample_rate)


def _read(path: str | os.PathLike[str], window: _Window, channel: int | None) -> tuple[Samples, int | None]:
    """Read one window; the second result is the channel to read instead where the mix cancelled itself out."""
    energy: dict[int, float] = {}
    mixed = 0.0
    spool = Spool()
    with open_media(path, "audio", AudioError) as container:
        stream = _sound_stream(container, path)
        if not window.from_picture and channel is None:
            _tell_tracks(container, stream, path)
        origin = origin_of(container, stream, window.from_picture)
        claims = claims_of(container, stream, path, origin)
        begin = _seek(container, stream, window.start, origin)
        skipped = begin * window.sample_rate
        resampler, gaps = StreamResampler(window.sample_rate), list[Gap]()
        for chunk, rate in sound_chunks(container, stream, path, origin, begin, gaps):
            for index, value in enumerate(np.square(chunk.planes, dtype=np.float64).sum(axis=1)):
                if chunk.names[index] not in WITHOUT_SPEECH:
                    energy[index] = energy.get(index, 0.0) + float(value)
            mono = chunk.mixed() if channel is None else chunk.planes[min(channel, len(chunk.planes) - 1)]
            mixed += float(np.square(mono, dtype=np.float64).sum())
            spool.push(resampler.push(mono, rate))
            _refuse_long(path, (skipped + spool.count) / window.sample_rate, claims.length, window)
            if window.last is not None and skipped + spool.count >= window.last:
                break
        spool.push(resampler.finish())
    samples = spool.samples()
    length, end = skipped + len(samples), claims.exact_end
    if end is not None and 0.0 < length / window.sample_rate - end < SMALLEST_GAP_SECONDS:
        samples = samples[: max(0, round(end * window.sample_rate) - skipped)]
    if channel is None and (window.last is None or length < window.last):
        warn_of_loss(path, length / window.sample_rate, claims)
    if channel is None:
        warn_of_gaps(path, gaps)
    samples = samples[window.first - skipped : None if window.last is None else window.last - skipped]
    peak = max((float(np.abs(piece).max(initial=0.0)) for piece in pieces_of(samples)), default=0.0)
    for piece in pieces_of(samples) if peak > 1.0 else ():
        piece /= peak
    loudest = max(energy, key=lambda index: energy[index], default=0)
    least = _CANCELLED_STEREO if len(energy) == 2 else _CANCELLED_SURROUND
    cancelled = channel is None and len(energy) > 1 and mixed < least * energy[loudest]
    return samples, loudest if cancelled else None


def _sound_stream(container: InputContainer, path: str | os.PathLike[str]) -> AudioStream:
    if not container.streams.audio:
        what = "a picture but no sound" if container.streams.video else "no sound"
        raise AudioError(f"The file '{Path(path)}' has {what}; give a recording of speech or a video with sound.")
    stream = container.streams.best("audio") or container.streams.audio[0]
    assert isinstance(stream, AudioStream)
    if stream.codec_context is None:
        raise AudioError(f"The sound of '{Path(path)}' has an unknown codec; convert it to wav, flac, mp3 or m4a.")
    return stream


def _tell_tracks(container: InputContainer, stream: AudioStream, path: str | os.PathLike[str]) -> None:
    count = len(container.streams.audio)
    if count > 1:
        number = container.streams.audio.index(stream) + 1
        warnings.warn(
            f"The file '{Path(path)}' has {count} sound tracks, of which number {number} is used.", stacklevel=4
        )


def _seek(container: InputContainer, stream: AudioStream, start: float, origin: float | None) -> int:
    """Go near `start` in a long video; give the second from which sound is decoded, 0 for the beginning."""
    # Sound files are not sought in: the places of many are estimates. Whole seconds keep the phase of the resampler.
    begin = int(start) - _SEEK_MARGIN_SECONDS
    if begin < _SEEK_MARGIN_SECONDS or origin is None or stream.time_base is None or picture_stream(container) is None:
        return 0
    place = int((origin + begin) / stream.time_base)
    try:
        container.seek(place, stream=stream, backward=True)
        packet = next(container.demux(stream))
        reached = packet.pts is not None and packet.pts <= place
    except (StopIteration, av.error.FFmpegError):
        reached = False
    # Once more, because a packet was taken out; to the beginning where a container without an index went too far.
    container.seek(place if reached else stream.start_time or 0, stream=stream, backward=True)
    return begin if reached else 0


def _refuse_long(path: str | os.PathLike[str], read: float, claimed: float | None, window: _Window) -> None:
    # What the header claims may be an estimate, so only what was decoded decides. Encoders pad the end by up to two
    # blocks of 1,152 samples, which are not meant to be heard.
    if window.limit is None or window.seconds is not None or read <= window.limit + 0.1:
        return
    accepted = window.limit - window.start
    lasts = f"{claimed - window.start:.1f} s" if claimed is not None and claimed > read else f"more than {accepted:g} s"
    raise AudioError(
        f"The audio '{Path(path)}' lasts {lasts} and at most {accepted:g} s are accepted; "
        f"give a shorter recording, or pass --max-seconds {accepted:g} to use only its beginning."
    )
