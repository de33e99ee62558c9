"""Boxes of MP4 files (ISO/IEC 14496-12), as far as marks need them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["XMP_UUID", "box_header", "iterate_boxes", "moved_fragment_index", "xmp_box"]

XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""Extended type of the box that holds XMP (ISO 16684-1, XMP specification part 3)."""


def box_header(data: bytes | bytearray | memoryview) -> tuple[bytes, int, int] | None:
    """Type of the box that begins with these bytes, its whole size (0: to the end of the file) and its header's; None: too few bytes."""
    if len(data) < 8:
        return None
    size, kind = struct.unpack_from(">I4s", data)
    if size != 1:
        return kind, size, 8
    return (kind, struct.unpack_from(">Q", data, 8)[0], 16) if len(data) >= 16 else None


def iterate_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, place and size of each box at the top of a file; ends where the file is cut off, or is no MP4."""
    end = file.seek(0, 2)
    place = 0
    while place < end:
        file.seek(place)
        header = box_header(file.read(16))
        if header is None:
            return
        kind, size, header_size = header
        size = size or end - place
        if size < header_size or place + size > end:
            return
        yield kind, place, size
        place += size


def xmp_box(source_type: str, tool: str) -> bytes:
    """A box of XMP with IPTC's digital source type and the program that made the video."""
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'Iptc4xmpExt:DigitalSourceType="{source_type}" xmp:CreatorTool="{tool}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
    return struct.pack(">I4s", 24 + len(packet), b"uuid") + XMP_UUID + packet


def moved_fragment_index(box: bytes, later: int) -> bytes:
    """An `mfra` box whose fragments lie so many bytes later."""
    moved, place = bytearray(box), 8
    while place + 8 <= len(moved):
        size, kind = struct.unpack_from(">I4s", moved, place)
        if kind == b"tfra":
            wide = moved[place + 8] == 1
            numbers, count = struct.unpack_from(">II", moved, place + 16)
            entry = (16 if wide else 8) + sum((numbers >> shift & 3) + 1 for shift in (0, 2, 4))
            for index in range(count):
                at = place + 24 + index * entry + (8 if wide else 4)
                kind_of = ">Q" if wide else ">I"
                struct.pack_into(kind_of, moved, at, struct.unpack_from(kind_of, moved, at)[0] + later)
        if size < 8:
            break
        place += size
    return bytes(moved)


def xmp_of(path: Path) -> bytes:
    """The XMP of a file; nothing where it has none."""
    with path.open("rb") as file:
        for kind, place, size in iterate_boxes(file):
            if kind == b"uuid" and size > 24:
                file.seek(place + 8)
                if file.read(16) == XMP_UUID:
                    return file.read(size - 24)
    return b""
