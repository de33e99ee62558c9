"""What a file claims about its sound: where it begins and ends, and whether all of it is there."""

from __future__ import annotations

import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from fantasytalking.media.container import picture_stream, seconds_of

__all__ = ["Claims", "claims_of", "origin_of", "warn_of_loss"]

# Formats that FFmpeg reads a length from that it does not adapt to what is there.
_LENGTH_OF_STREAM = frozenset({"aiff", "au"})
_LENGTH_OF_FILE = frozenset({"matroska", "webm"})
_STREAMED_SIZES = (0, 0xFFFFFFFF)


@dataclass(frozen=True)
class Claims:
    """What a file claims about its sound, in seconds after second 0; None where it claims nothing.

    Attributes:
        length: Length of the sound, which may be an estimate.
        exact_end: Where it ends, in containers that know it exactly although the last block may be padded.
        promised_end: Where it ends as its header says, if that is no estimate.
        in_file: Where it ends by the size of the file, if that is later than the header says.
        open_ended: Whether the header leaves the length open.
    """

    length: float | None
    exact_end: float | None
    promised_end: float | None
    in_file: float | None = None
    open_ended: bool = False


def origin_of(container: InputContainer, stream: AudioStream, from_picture: bool) -> float | None:
    """Second 0 on the clock of the file: the first frame of its picture, if it has one and that counts, or else the first sample."""
    first = (picture_stream(container) if from_picture else None) or stream
    return seconds_of(first.start_time, first.time_base)


def claims_of(
    container: InputContainer, stream: AudioStream, path: str | os.PathLike[str], origin: float | None
) -> Claims:
    """What the open file claims, and for a WAV file what its header says.

    Args:
        container: The open file.
        stream: The sound that is read.
        path: Its path.
        origin: Second 0 on the clock of the file.
    """
    formats = set(container.format.name.split(","))
    whole = None if container.duration is None else container.duration / av.time_base
    begin, own = seconds_of(stream.start_time, stream.time_base), seconds_of(stream.duration, stream.time_base)
    length = whole if own is None else own
    if "wav" in formats:
        return _claims_of_wave(path, length)
    exact = None
    if {"mov", "mp4", "flac"} & formats and begin is not None and origin is not None and own:
        exact = begin + own - origin
    promised = exact
    if formats & _LENGTH_OF_STREAM or ("mp3" in formats and _counts_frames(path)):
        promised = own
    elif formats & _LENGTH_OF_FILE and picture_stream(container) is None:
        promised = whole
    return Claims(length, exact, promised)


def warn_of_loss(path: str | os.PathLike[str], seconds: float, claims: Claims) -> None:
    """Tell that a file promises more sound than it held, holds more than it says, or leaves that open.

    Args:
        path: The file.
        seconds: Where the sound ended that was read, in seconds after second 0.
        claims: What the file claims.
    """
    text = ""
    if claims.promised_end is not None and seconds < 0.95 * claims.promised_end - 0.1:
        text = f"is incomplete: {seconds:.1f} of its {claims.promised_end:.1f} s could be read and are used"
    elif claims.in_file is not None:
        text = (
            f"has a header that tells of {seconds:.1f} s, which are used, although the file holds {claims.in_file:.1f} s; "
            "export the recording again to use all of it"
        )
    elif claims.open_ended:
        text = (
            f"has a header without a length, as if its writing had been broken off; all of it, {seconds:.1f} s, is used"
        )
    if text:
        warnings.warn(f"The audio '{Path(path)}' {text}.", stacklevel=4)


def _counts_frames(path: str | os.PathLike[str]) -> bool:
    """Whether an MP3 file tells its number of frames in its first one; FFmpeg estimates the length of others."""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            # four times seven bits
            file.seek(10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)))
            head = b""
        first = head + file.read(4096)
    return b"Xing" in first or b"Info" in first


def _claims_of_wave(path: str | os.PathLike[str], length: float | None) -> Claims:
    """FFmpeg adapts the length of a WAV file to what is there, so its chunks are read here."""
    size = os.path.getsize(path)
    rate = 0
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF":
            return Claims(length, None, None)
        place = 12
        while place + 8 <= size:
            file.seek(place)
            name, chunk = struct.unpack("<4sI", file.read(8))
            if name == b"fmt ":
                # bytes a second, behind format, channels and sample rate
                (rate,) = struct.unpack("<8xI", file.read(12).ljust(12, b"\0"))
            if name != b"data":
                place += 8 + chunk + chunk % 2
                continue
            there, after = size - place - 8, place + 8 + chunk + chunk % 2
            if not rate or chunk in _STREAMED_SIZES:
                return Claims(length, None, None, open_ended=bool(rate))
            if chunk > there:
                return Claims(length, None, chunk / rate)
            file.seek(min(after, size))
            more = there > chunk + 1 and not _is_chunk(file.read(8), size - after)
            return Claims(length, None, None, in_file=there / rate if more else None)
    return Claims(length, None, None)


def _is_chunk(head: bytes, left: int) -> bool:
    """Whether what follows the samples is another chunk of the file."""
    if len(head) < 8:
        return True
    name, size = struct.unpack("<4sI", head)
    return all(32 <= byte < 127 for byte in name) and size <= left - 8
