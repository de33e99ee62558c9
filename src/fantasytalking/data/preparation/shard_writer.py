"""Writing shards: plain tar files in the layout of WebDataset whose bytes depend on the samples alone."""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = ["DealtShard", "ShardFile", "ShardWriter", "deal", "json_text", "write_json", "writing_shard"]

T = TypeVar("T")


@dataclass(frozen=True)
class DealtShard:
    """Which candidates a shard is made of: positions in the list of all of them."""

    name: str
    split: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class ShardFile:
    """A finished shard.

    Attributes:
        samples: number of clips.
        size: bytes.
        sha256: of the file.
    """

    samples: int
    size: int
    sha256: str


def deal(splits: Sequence[str], clips_per_shard: int) -> list[DealtShard]:
    """Deal candidates out into shards, in order, each split for itself; a function of the list alone.

    Args:
        splits: split of each candidate.
        clips_per_shard: candidates of a shard; those that are dropped leave it smaller.
    """
    shards = []
    for split in sorted(set(splits)):
        members = [index for index, own in enumerate(splits) if own == split]
        for number, first in enumerate(range(0, len(members), clips_per_shard)):
            shards.append(DealtShard(f"{split}-{number:06d}", split, tuple(members[first : first + clips_per_shard])))
    return shards


class ShardWriter:
    """Adds samples to a tar file: times, owners and rights are fixed, the order is that of the calls."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.samples = 0

    def add(self, key: str, row: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Add a sample: first its row as JSON, then its files by ending."""
        for ending, content in [("json", json_text(row).encode()), *sorted(files.items())]:
            entry = tarfile.TarInfo(f"{key}.{ending}")
            entry.size, entry.mtime, entry.mode = len(content), 0, 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            self._archive.addfile(entry, io.BytesIO(content))
        self.samples += 1


@contextmanager
def writing_shard(path: Path) -> Iterator[ShardWriter]:
    """Write a shard under a temporary name; it gets its own when the block ends well and there is a sample in it.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with full_disk_error(path), atomic_path(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            writer = ShardWriter(archive)
            yield writer
        file.flush()
        os.fsync(file.fileno())
    if not writer.samples:
        # an empty archive would stop whoever reads the shards one after the other
        path.unlink()


def json_text(value: Any) -> str:
    """JSON on one line, the same for the same value; what is no number (NaN, infinite) becomes null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write JSON, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    with full_disk_error(path), atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # the name of a file may be bytes that are no text
        return value.encode("utf-8", "backslashreplace").decode()
    return value
