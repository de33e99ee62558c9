"""Files that were made to do harm, for tests and for `benchmarks/fuzz_serving.py`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["AUDIO", "IMAGES", "VIDEOS", "png_bomb", "wav"]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int, rows: int | None = None, colours: int = 1) -> bytes:
    """A black PNG, its file a thousandth of its pixels; fewer rows than it claims where `rows` is given."""
    packer, line = zlib.compressobj(9), bytes(colours * width + 1)
    packed = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if colours == 1 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def picture(form: str = "PNG", side: int = 64) -> bytes:
    """A small picture of noise."""
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(out, format=form)
    return out.getvalue()


def wav(seconds: float = 0.5, rate: int = 16000, claims: int | None = None) -> bytes:
    """A tone; its header claims another length where `claims` is given."""
    samples = (8000 * np.sin(np.arange(int(seconds * rate)) * 0.1)).astype("<i2").tobytes()
    size = len(samples) if claims is None else claims
    head = (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    )
    return head + b"data" + struct.pack("<I", size) + samples


def atom(kind: bytes, *parts: bytes) -> bytes:
    """An atom of QuickTime."""
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + kind + body


def mov_with_reference(target: str) -> bytes:
    """A QuickTime file whose samples lie in another file, as its data reference says."""
    url = atom(b"url ", b"\0\0\0\0", f"file://{target}".encode() + b"\0")
    alias = atom(b"alis", b"\0\0\0\0", target.encode())
    references = atom(b"dref", struct.pack(">II", 0, 2), url, alias)
    entry = atom(b"sowt", bytes(6), struct.pack(">HHHIHHHHI", 1, 0, 0, 0, 1, 16, 0, 0, 16000 << 16))
    table = atom(
        b"stbl",
        atom(b"stsd", struct.pack(">II", 0, 1), entry),
        atom(b"stts", struct.pack(">IIII", 0, 1, 16000, 1)),
        atom(b"stsc", struct.pack(">IIIII", 0, 1, 1, 16000, 1)),
        atom(b"stsz", struct.pack(">III", 0, 2, 16000)),
        atom(b"stco", struct.pack(">III", 0, 1, 0)),
    )
    media = atom(
        b"mdia",
        atom(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 16000, 16000, 0, 0)),
        atom(b"hdlr", bytes(4), b"mhlrsoun", bytes(12), b"\0"),
        atom(b"minf", atom(b"smhd", bytes(8)), atom(b"dinf", references), table),
    )
    track = atom(b"trak", atom(b"tkhd", struct.pack(">IIIIII", 1, 0, 0, 1, 0, 16000), bytes(60)), media)
    head = atom(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 16000, 16000), bytes(80))
    return atom(b"ftyp", b"qt  ", bytes(4), b"qt  ") + atom(b"moov", head, track)


def _playlists(secret: Path) -> dict[str, bytes]:
    path = str(secret)
    return {
        "hls playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n".encode(),
        "hls of an address": b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/secret.ts\n#EXT-X-ENDLIST\n",
        "concat list": f"ffconcat version 1.0\nfile '{path}'\n".encode(),
        "dash manifest": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{path}</BaseURL></MPD>'.encode(),
        "session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n",
        "pls": f"[playlist]\nFile1={path}\n".encode(),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{path}"/></svg>'.encode(),
        "postscript": b"%!PS\n(/etc/passwd) (r) file\n",
        "pdf": b"%PDF-1.7\n",
        "zip": b"PK\x03\x04" + bytes(100),
        "script": b"#!/bin/sh\ntouch /tmp/owned\n",
        "html": b"<!doctype html><script>alert(1)</script>",
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "zeros": bytes(10_000),
        "text": b"hello " * 100,
        "link": path.encode(),
    }


def IMAGES(secret: Path) -> Mapping[str, Callable[[], bytes]]:  # noqa: N802 - a table that depends on a path
    """Name -> a bad portrait; `secret` is a file that nobody may read."""
    made: dict[str, Callable[[], bytes]] = {name: partial(bytes, data) for name, data in _playlists(secret).items()}
    made |= {
        "empty": lambda: b"",
        "truncated png": lambda: picture()[:100],
        "truncated jpeg": lambda: picture("JPEG")[:200],
        "bomb": lambda: png_bomb(12_000, 12_000),
        "bomb that lies": lambda: png_bomb(60_000, 60_000, rows=10),
        "text bomb": lambda: (
            picture()[:-12]
            + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
            + png_chunk(b"IEND", b"")
        ),
        "too thin": lambda: png_bomb(40_000, 4),
        "wav": wav,
        "png with a wrong check sum": lambda: picture()[:40] + b"\xff" * 4 + picture()[44:],
        "gif head": lambda: b"GIF89a" + b"\xff" * 50,
        "tiff with a loop": lambda: b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 3, 1, 1, 8),
        "tiff of huge count": lambda: b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 273, 4, 2**31 - 1, 8, 0),
    }
    return made


def AUDIO(secret: Path) -> Mapping[str, Callable[[], bytes]]:  # noqa: N802 - as above
    """Name -> bad speech."""
    made: dict[str, Callable[[], bytes]] = {name: partial(bytes, data) for name, data in _playlists(secret).items()}
    made |= {
        "empty": lambda: b"",
        "wav without sound": lambda: wav(0.0),
        "wav too short": lambda: wav(0.01),
        "silence": lambda: b"RIFF" + wav()[4:44] + bytes(16000),
        "flac head": lambda: b"fLaC" + b"\xff" * 400,
        "ogg head": lambda: b"OggS" + bytes(400),
        "id3 and a playlist": lambda: b"ID3\x03\0\0\0\0\0\0" + _playlists(secret)["hls playlist"],
        "picture": picture,
        "mov that points elsewhere": lambda: mov_with_reference(str(secret)),
        "matroska head": lambda: b"\x1aE\xdf\xa3" + b"\xff" * 400,
        "mp4 with a huge atom": lambda: (
            atom(b"ftyp", b"isom", bytes(4)) + struct.pack(">I", 2**32 - 1) + b"moov" + bytes(99)
        ),
        "too long": lambda: wav(1400, 8000),
        "wav of a billion channels": lambda: wav()[:22] + b"\xff\xff" + wav()[24:],
    }
    return made


def VIDEOS(secret: Path) -> Mapping[str, Callable[[], bytes]]:  # noqa: N802 - as above
    """Name -> bad footage."""
    return {**AUDIO(secret), "wav": wav}
