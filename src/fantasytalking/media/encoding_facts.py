"""How the picture of a file is encoded, as far as the file tells: container, codec, and the quality that x264 or x265 was asked for."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fantasytalking.errors import VideoError
from fantasytalking.media.container import open_media, picture_stream

__all__ = ["PictureEncoding", "read_encoding"]

_LOOKED_AT = 2
"""Packets in which the encoder's settings are looked for: x264 and x265 write them as text into the first one."""
_RATE_CONTROL = re.compile(rb"x26[45].{0,4000}?\brc=(\w+).{0,200}?\b(crf|qp|bitrate)=(\d+(?:\.\d+)?)", re.DOTALL)
_NAMES = {b"crf": "CRF", b"qp": "QP", b"bitrate": "kbit/s"}


@dataclass(frozen=True)
class PictureEncoding:
    """How a picture is encoded.

    Attributes:
        container: Such as `mp4`.
        codec: Such as `h264`.
        quality: Such as `CRF 18`; "" where the file does not tell.
        kbps: Bit rate of the picture in kbit/s; 0 where it is not known.
    """

    container: str
    codec: str
    quality: str
    kbps: int

    def __str__(self) -> str:
        return f"{self.codec} in {self.container}, {self.quality or 'quality unknown'}"


def read_encoding(path: str | os.PathLike[str]) -> PictureEncoding:
    """Read how a file's picture is encoded; nothing is decoded.

    Args:
        path: A video file.

    Raises:
        VideoError: The file is missing, empty, corrupt or has no picture.
    """
    with open_media(path, "video", VideoError) as container:
        stream = picture_stream(container)
        if stream is None:
            raise VideoError(f"The file '{Path(path)}' has no picture; give a video.")
        formats = container.format.name.split(",")
        suffix = Path(path).suffix.lower().lstrip(".")
        name = suffix if suffix in formats else formats[0]
        head = bytes(stream.codec_context.extradata or b"")
        for packet in itertools.islice(container.demux(stream), _LOOKED_AT):
            head += bytes(packet)
        kbps = round((stream.bit_rate or 0) / 1000)
        return PictureEncoding(name, stream.codec_context.name, _quality(head), kbps)


def _quality(head: bytes) -> str:
    found = _RATE_CONTROL.search(head)
    if found is None:
        return ""
    _, kind, number = found.groups()
    value = f"{float(number):g}"
    return f"{value} {_NAMES[kind]}" if kind == b"bitrate" else f"{_NAMES[kind]} {value}"
