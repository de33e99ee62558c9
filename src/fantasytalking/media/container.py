"""Opening of media files, with the checks that every reader of sound or video needs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Collection, Iterator
from fractions import Fraction

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from fantasytalking.errors import InputError
from fantasytalking.system.files import existing_file, full_disk_error

__all__ = [
    "SCALING",
    "close_quietly",
    "open_media",
    "picture_stream",
    "restrict_media",
    "seconds_of",
    "write_errors",
]

# Without exact rounding the conversion between RGB and YUV loses one to two grey levels each way.
SCALING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)

# A playlist names other files or addresses: given as a portrait's speech it would read what its sender may not.
_INDIRECT_FORMATS = frozenset({"hls", "applehttp", "dash", "concat", "imf", "sdp", "rtsp", "rtp", "sap", "vapoursynth"})


@contextlib.contextmanager
def open_media(path: str | os.PathLike[str], what: str, error: type[InputError]) -> Iterator[InputContainer]:
    """Open a media file of any container that PyAV reads.

    Args:
        path: The file.
        what: How messages call it, such as "audio".
        error: The class to raise.

    Yields:
        The open container.

    Raises:
        InputError: As the given class: not a readable file, or not a media file.
    """
    file = existing_file(path, what, error)
    try:
        # The prefix keeps a file called "a:b.mp4" from being read as a protocol.
        container = av.open(f"file:{file.absolute()}", options=_only_this_file(), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as cause:
        raise error(
            f"The {what} file '{file}' is not a readable media file ({_reason(cause)}); "
            "give a common format such as wav, mp3, m4a, flac, ogg, mp4, mov, mkv or webm."
        ) from cause
    with container:
        if _most_pixels:
            for stream in container.streams.video:
                # a stream whose pictures grow in its middle passes every look at its head; one of an unknown codec has no decoder
                if stream.codec_context is not None:
                    stream.codec_context.options = {"max_pixels": str(_most_pixels)}
        yield container


_formats: tuple[str, ...] = ()
_most_pixels = 0


def restrict_media(formats: Collection[str], most_pixels: int) -> None:
    """Let this process open only some containers from now on, for a service that reads the files of strangers.

    Args:
        formats: Names of FFmpeg's demuxers.
        most_pixels: Most pixels of a frame; decoders refuse larger ones.
    """
    global _formats, _most_pixels
    _formats, _most_pixels = tuple(formats), most_pixels
    _only_this_file.cache_clear()


@functools.cache
def _only_this_file() -> dict[str, str]:
    formats = ",".join(sorted(_formats or av.formats_available - _INDIRECT_FORMATS))
    return {"protocol_whitelist": "file", "format_whitelist": formats}


def write_errors(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[None]:
    """`full_disk_error` for what PyAV writes: its own exceptions become an `OutputError` too."""
    return full_disk_error(path, av.error.FFmpegError)


def close_quietly(container: OutputContainer) -> None:
    """Close a container after a failure, which may fail as well (the disk is still full): the first error is the one to tell."""
    with contextlib.suppress(av.error.FFmpegError, OSError):
        container.close()


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The main video stream of a container; the cover picture of a sound file is none."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return streams[0] if streams else None


def seconds_of(timestamp: int | None, time_base: Fraction | None) -> float | None:
    """A timestamp in seconds; None where the file has none."""
    return None if timestamp is None or time_base is None else float(timestamp * time_base)


def _reason(cause: BaseException) -> str:
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
