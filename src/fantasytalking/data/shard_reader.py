"""Files of clips out of shards, by name and in any order, without unpacking."""

from __future__ import annotations

import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.data.set_records import AGAIN
from fantasytalking.errors import InputError

__all__ = ["ShardReader", "read_places"]

BLOCK = tarfile.BLOCKSIZE
LONGEST_END = 2 * BLOCK + tarfile.RECORDSIZE


@dataclass
class ShardReader:
    """Reads members of a set's shards; the index of a shard is read once.

    It can be used from several threads, and be sent to other processes.

    Attributes:
        folder: Folder of the set, whose shards lie in `shards/`.
    """

    folder: Path
    _places: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def path(self, shard: str) -> Path:
        """Path of a shard."""
        return self.folder / "shards" / f"{shard}.tar"

    def read(self, shard: str, key: str, ending: str) -> bytes:
        """Content of one file of a clip.

        Args:
            shard: Name of the clip's shard.
            key: Name of the clip.
            ending: Ending of the file: mp4, flac, jpg, safetensors or json.

        Raises:
            InputError: The clip has no such file, or the shard cannot be read.
        """
        places, path, name = self.places(shard), self.path(shard), f"{key}.{ending}"
        if name not in places:
            endings = sorted(other.removeprefix(f"{key}.") for other in places if other.startswith(f"{key}."))
            raise InputError(f"The clip '{key}' has no file '{ending}'; it has {', '.join(endings)}.")
        offset, size = places[name]
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise InputError(f"The shard '{path}' cannot be read ({error.strerror or error}); {AGAIN}.") from error
        if len(content) < size:
            raise InputError(f"The shard '{path}' ends in the middle of '{name}'; {AGAIN}.")
        return content

    def places(self, shard: str) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every member of a shard, by name.

        Raises:
            InputError: The shard cannot be read as far as its end.
        """
        with self._lock:
            if shard not in self._places:
                found, fault = read_places(self.path(shard))
                if fault:
                    raise InputError(f"The shard '{self.path(shard)}' is damaged: {fault}; {AGAIN}.")
                self._places[shard] = found
            return self._places[shard]


def read_places(path: Path) -> tuple[dict[str, tuple[int, int]], str]:
    """Find the members of a tar file.

    Returns:
        Offset and size in bytes of each member by name, and why the rest could not be read; empty if there is no rest.
    """
    found: dict[str, tuple[int, int]] = {}
    last, end = "", 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                last, end = member.name, member.offset_data + -(-member.size // BLOCK) * BLOCK
                if member.isfile():
                    found[member.name] = (member.offset_data, member.size)
        # tarfile takes a damaged header for the end of the archive: two blocks of zeros, and more up to a full record
        with open(path, "rb") as file:
            file.seek(end)
            rest = file.read(LONGEST_END + 1)
    except (OSError, tarfile.TarError) as error:
        return found, f"it cannot be read{f' behind {last!r}' if last else ''} ({error})"
    if not last or len(rest) > LONGEST_END or any(rest):
        return found, f"what follows {last!r} is no tar header"
    return found, ""
