"""What a file is, by its first bytes alone: names and declared types are claims of whoever sends it.

Only what begins like a known picture, sound or film is looked at by a decoder. That leaves out everything that names other files or
addresses: playlists, descriptions of sessions, lists for concatenation, drawings, documents and archives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fantasytalking.errors import InputError

__all__ = ["MEDIA_FORMATS", "FileKind", "FileTooLarge", "UnknownFileKind", "check_kind", "content_type", "recognise"]

FileKind = Literal["image", "audio", "video"]

MEDIA_FORMATS = (
    "aac",
    "aiff",
    "amr",
    "asf",
    "au",
    "avi",
    "caf",
    "flac",
    "flv",
    "live_flv",
    "m4v",
    "matroska",
    "webm",
    "mov",
    "mp4",
    "m4a",
    "3gp",
    "3g2",
    "mj2",
    "mp3",
    "mpeg",
    "mpegts",
    "ogg",
    "rf64",
    "w64",
    "wav",
)
"""FFmpeg's demuxers that files of strangers are read with; each reads nothing but its own file."""

_HEAD_BYTES = 1024
_STARTS = (
    (b"\xff\xd8\xff", "JPEG", "image"),
    (b"\x89PNG\r\n\x1a\n", "PNG", "image"),
    (b"GIF87a", "GIF", "image"),
    (b"GIF89a", "GIF", "image"),
    (b"BM", "BMP", "image"),
    (b"II*\x00", "TIFF", "image"),
    (b"MM\x00*", "TIFF", "image"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000", "image"),
    (b"\xff\x4f\xff\x51", "JPEG 2000", "image"),
    (b"fLaC", "FLAC", "audio"),
    (b"OggS", "Ogg", "media"),
    (b"ID3", "MP3", "audio"),
    (b"#!AMR", "AMR", "audio"),
    (b".snd", "AU", "audio"),
    (b"caff", "CAF", "audio"),
    (b"riff\x2e\x91\xcf\x11", "Wave64", "audio"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM", "media"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF", "media"),
    (b"FLV\x01", "FLV", "media"),
    (b"\x00\x00\x01\xba", "MPEG", "media"),
)
_INSIDE = {
    (b"RIFF", b"WEBP"): ("WebP", "image"),
    (b"RIFF", b"WAVE"): ("WAV", "audio"),
    (b"RIFF", b"AVI "): ("AVI", "media"),
    (b"RF64", b"WAVE"): ("RF64", "audio"),
    (b"FORM", b"AIFF"): ("AIFF", "audio"),
    (b"FORM", b"AIFC"): ("AIFF", "audio"),
}
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx")
_ATOMS = (b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_TS_PACKET = 188
_ACCEPTED = {
    "image": "a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF picture",
    "audio": "a sound file such as wav, mp3, m4a, flac, ogg or webm, or a video with sound",
    "video": "a video such as mp4, mov, mkv or webm",
}


_TYPES = {
    "PNG": ("image/png", ".png"),
    "FLAC": ("audio/flac", ".flac"),
    "MP3": ("audio/mpeg", ".mp3"),
    "MPEG audio": ("audio/mpeg", ".mp3"),
    "AMR": ("audio/amr", ".amr"),
    "AU": ("audio/basic", ".au"),
    "CAF": ("audio/x-caf", ".caf"),
    "Wave64": ("audio/x-w64", ".w64"),
    "WAV": ("audio/wav", ".wav"),
    "RF64": ("audio/wav", ".wav"),
    "AIFF": ("audio/aiff", ".aiff"),
    "ASF": ("video/x-ms-asf", ".asf"),
    "FLV": ("video/x-flv", ".flv"),
    "MPEG": ("video/mpeg", ".mpg"),
    "AVI": ("video/x-msvideo", ".avi"),
    "MP4 or QuickTime": ("video/mp4", ".mp4"),
    "QuickTime": ("video/quicktime", ".mov"),
    "MPEG transport stream": ("video/mp2t", ".ts"),
}
_UNKNOWN = ("application/octet-stream", "")


class UnknownFileKind(InputError):  # noqa: N818 - what is given has no kind that is known
    """The file is none of the accepted kinds."""


class FileTooLarge(InputError):  # noqa: N818 - named as what it says
    """The file has more bytes than its kind may have."""


def recognise(head: bytes) -> tuple[str, str] | None:
    """Name and family of the format that a file begins with.

    Args:
        head: Its first bytes, a kilobyte or all.

    Returns:
        The name, and `image`, `audio` or, where only its streams tell, `media`; None: no accepted format.
    """
    for start, name, family in _STARTS:
        if head.startswith(start):
            return name, family
    if (head[:4], head[8:12]) in _INSIDE:
        return _INSIDE[head[:4], head[8:12]]
    if head[4:8] == b"ftyp":
        return ("AVIF or HEIC", "image") if head[8:12] in _PICTURE_BRANDS else ("MP4 or QuickTime", "media")
    if head[4:8] in _ATOMS:
        return "QuickTime", "media"
    if len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == 0x47:
        return "MPEG transport stream", "media"
    # a frame of MPEG audio: eleven bits of synchronisation, and neither a reserved version nor a reserved rate
    if (
        len(head) > 3
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[2] & 0x0C != 0x0C
    ):
        return "MPEG audio", "audio"
    if head[:2] in (b"P5", b"P6") and head[2:3].isspace():
        return "PPM", "image"
    return None


def check_kind(path: Path, kind: FileKind) -> str:
    """Check that a file begins as one of its kind does.

    Args:
        path: A file with a name of ours.
        kind: What it is meant to be.

    Returns:
        Name of its format.

    Raises:
        UnknownFileKind: It does not.
    """
    with open(path, "rb") as stream:
        found = recognise(stream.read(_HEAD_BYTES))
    if found is None:
        raise UnknownFileKind(f"The {kind} is no file of a known kind; give {_ACCEPTED[kind]}.")
    name, family = found
    fits = {"image": ("image",), "audio": ("audio", "media"), "video": ("media",)}[kind]
    if family not in fits:
        raise UnknownFileKind(f"The {kind} is {name}, which is no {kind}; give {_ACCEPTED[kind]}.")
    return name


def content_type(path: Path, is_picture: bool) -> tuple[str, str]:
    """How a stored upload is served.

    Args:
        path: The file, whose kind was checked.
        is_picture: Whether its pictures are meant, and not its sound.

    Returns:
        Its content type by its first bytes, and the ending that its name should have.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
    name = (recognise(head) or ("", ""))[0]
    if name == "Ogg":
        return ("video/ogg", ".ogv") if is_picture else ("audio/ogg", ".ogg")
    if name == "Matroska or WebM":
        # what the file says of itself in its first element
        return ("video/webm", ".webm") if b"webm" in head[:64] else ("video/x-matroska", ".mkv")
    return _TYPES.get(name, _UNKNOWN)
