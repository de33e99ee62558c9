"""Shards: plain tar files in the layout of WebDataset whose bytes depend on their samples alone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.system.files import atomic_path, full_disk_error
from fantasytalking.system.json import json_text

__all__ = ["ShardAssignment", "ShardWriter", "assign_shards", "writing_shard"]


@dataclass(frozen=True)
class ShardAssignment:
    """Candidates that go into one shard.

    Attributes:
        name: Name of the shard: its split and number.
        split: "train" or "val".
        members: Positions in the list of all candidates.
    """

    name: str
    split: str
    members: tuple[int, ...]


def assign_shards(splits: Sequence[str], clips_per_shard: int) -> list[ShardAssignment]:
    """Assign candidates to shards, in order and each split on its own; a pure function of its arguments.

    Args:
        splits: Split of each candidate.
        clips_per_shard: Candidates per shard; the shard is smaller where some of them are dropped.
    """
    shards = []
    for split in sorted(set(splits)):
        members = [index for index, own in enumerate(splits) if own == split]
        for number, first in enumerate(range(0, len(members), clips_per_shard)):
            name = f"{split}-{number:06d}"
            shards.append(ShardAssignment(name, split, tuple(members[first : first + clips_per_shard])))
    return shards


class ShardWriter:
    """Adds samples to a tar file with fixed times, owners and permissions, in the order of the calls.

    Attributes:
        samples: Number of samples that were added.
    """

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.samples = 0

    def add(self, key: str, row: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Add a sample: first its row as JSON, then its files in alphabetical order of their endings.

        Args:
            key: Name of the clip.
            row: Its row in the list of clips.
            files: Content by ending.
        """
        for ending, content in [("json", json_text(row).encode()), *sorted(files.items())]:
            entry = tarfile.TarInfo(f"{key}.{ending}")
            entry.size, entry.mtime, entry.mode = len(content), 0, 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            self._archive.addfile(entry, io.BytesIO(content))
        self.samples += 1


@contextmanager
def writing_shard(path: Path) -> Iterator[ShardWriter]:
    """Write a shard to a temporary file, and rename it to `path` when the block ends well; without a sample there is no file.

    Raises:
        OutputError: The disk is full, or the folder cannot be written.
    """
    with full_disk_error(path), atomic_path(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            writer = ShardWriter(archive)
            yield writer
        file.flush()
        os.fsync(file.fileno())
    if not writer.samples:
        # an empty archive would stop a reader that goes through all shards
        path.unlink()
