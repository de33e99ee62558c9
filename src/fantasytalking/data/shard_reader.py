"""Files of clips out of shards, by name and in any order, without unpacking."""

from __future__ import annotations

import tarfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fantasytalking.errors import InputError

__all__ = ["ShardReader"]


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
        places, path, name = self._index(shard), self.path(shard), f"{key}.{ending}"
        if name not in places:
            endings = sorted(other.removeprefix(f"{key}.") for other in places if other.startswith(f"{key}."))
            raise InputError(f"The clip '{key}' has no file '{ending}'; it has {', '.join(endings)}.")
        offset, size = places[name]
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise InputError(f"The shard '{path}' ends in the middle of '{name}'; copy or prepare the set again.")
        return content

    def _index(self, shard: str) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every member of a shard, by name."""
        with self._lock:
            if shard not in self._places:
                path = self.path(shard)
                try:
                    with tarfile.open(path, "r:") as archive:
                        self._places[shard] = {m.name: (m.offset_data, m.size) for m in archive if m.isfile()}
                except (OSError, tarfile.TarError) as error:
                    raise InputError(
                        f"The shard '{path}' cannot be read ({error}); copy or prepare the set again."
                    ) from error
            return self._places[shard]
