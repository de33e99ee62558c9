"""What a server and its live process tell each other over pipes: packets of one letter, a length and bytes.

| packet | direction | holds |
|---|---|---|
| `J` | both | a JSON object with a `type` |
| `P` | to the process | speech, raw PCM |
| `V` | from the process | a piece of fragmented MP4 |
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

__all__ = ["JSON", "MOST_BYTES", "PCM", "VIDEO", "Packet", "packed", "packed_json", "read_packet", "receive_packet"]

JSON, PCM, VIDEO = b"J", b"P", b"V"
MOST_BYTES = 64 * 1024 * 1024
"""A longer packet is none of ours."""

Packet = tuple[bytes, bytes]

_HEADER = struct.Struct(">cI")


def packed(kind: bytes, data: bytes) -> bytes:
    """A packet as bytes.

    Args:
        kind: `JSON`, `PCM` or `VIDEO`.
        data: What it holds.
    """
    return _HEADER.pack(kind, len(data)) + data


def packed_json(values: Mapping[str, Any]) -> bytes:
    """A packet of a JSON object."""
    return packed(JSON, json.dumps(values).encode())


def read_packet(pipe: BinaryIO) -> Packet | None:
    """The next packet of a pipe; None at its end."""
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    kind, size = _unpacked(header)
    data = pipe.read(size)
    return (kind, data) if len(data) == size else None


async def receive_packet(pipe: asyncio.StreamReader) -> Packet | None:
    """The next packet of a pipe; None at its end."""
    try:
        kind, size = _unpacked(await pipe.readexactly(_HEADER.size))
        return kind, await pipe.readexactly(size)
    except asyncio.IncompleteReadError:
        return None


def _unpacked(header: bytes) -> tuple[bytes, int]:
    kind, size = _HEADER.unpack(header)
    if size > MOST_BYTES:
        raise ValueError(f"A packet of {size} bytes is none of ours.")
    return kind, size
