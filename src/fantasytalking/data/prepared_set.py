"""Reading prepared sets: shards with a manifest, as `fantasytalking prepare` writes them, clip by clip in any order.

The shards are plain WebDataset archives and can be streamed by that library too; this reader adds what a stream cannot give: any
clip by its key, without unpacking, and the rows that say what each clip is. Letters: F frames, t speech tokens.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fantasytalking.data.face_tracks import ClipInfo, FaceTrack
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.errors import InputError
from fantasytalking.system.digests import file_sha256

__all__ = ["CLIPS", "MANIFEST", "SCHEMA", "PreparedSet", "face_tracks", "intensity"]

SCHEMA = 1
"""Version of the layout."""
MANIFEST = "manifest.json"
CLIPS = "clips.jsonl"

Place = tuple[int, int]


@dataclass
class PreparedSet:
    """A finished set.

    Attributes:
        folder: where it lies.
        manifest: content of `manifest.json`.
        rows: content of `clips.jsonl`, dropped candidates included.
    """

    folder: Path
    manifest: dict[str, Any]
    rows: list[dict[str, Any]]
    _by_key: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    _places: dict[str, dict[str, Place]] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._by_key = {row["key"]: row for row in self.rows if row["kept"]}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the list of clips and the shards; not of the manifest, which also says how long their making took."""
        content = [self.manifest["clips_sha256"], [shard["sha256"] for shard in self.manifest["shards"]]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @classmethod
    def open(cls, folder: Path | str) -> PreparedSet:
        """Open a set; its rows are read, its shards are looked for.

        Raises:
            InputError: no set, an unfinished or damaged one, one of another version, or a shard is missing or of another size.
        """
        root = Path(folder).expanduser()
        manifest = _manifest(root)
        try:
            text = (root / CLIPS).read_text("utf-8")
            rows = [json.loads(line) for line in text.splitlines() if line]
            prepared = cls(root, manifest, rows)
            for shard in manifest["shards"]:
                path = prepared.shard(shard["name"])
                if not path.is_file() or path.stat().st_size != shard["bytes"]:
                    what = (
                        "is missing"
                        if not path.is_file()
                        else f"has {path.stat().st_size} bytes instead of {shard['bytes']}"
                    )
                    raise InputError(
                        f"The shard '{path}' {what}; give the command that prepared the set again, or copy the set again."
                    )
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"The prepared set '{root}' is damaged ({error!r}); give the command that prepared it again."
            ) from error
        return prepared

    def clips(self, split: str | None = None) -> list[dict[str, Any]]:
        """Rows of the clips that were kept, of one split or of both, in the order of their keys."""
        return [row for row in self.rows if row["kept"] and split in (None, row["split"])]

    def shard(self, name: str) -> Path:
        """Where a shard is."""
        return self.folder / "shards" / f"{name}.tar"

    def shards(self, split: str) -> list[Path]:
        """All shards of a split, for a reader that streams them."""
        return [self.shard(shard["name"]) for shard in self.manifest["shards"] if shard["split"] == split]

    def bytes(self, key: str, ending: str) -> bytes:
        """One file of a clip: mp4, flac, jpg, safetensors or json.

        Raises:
            InputError: no such clip, no such file of it, or the shard cannot be read.
        """
        if key not in self._by_key:
            raise InputError(f"The prepared set '{self.folder}' holds no clip '{key}'; its clips.jsonl lists them.")
        shard = self._by_key[key]["shard"]
        places, path = self._index(shard), self.shard(shard)
        name = f"{key}.{ending}"
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

    def json(self, key: str) -> dict[str, Any]:
        """The row of a clip as its shard has it."""
        row: dict[str, Any] = json.loads(self.bytes(key, "json"))
        return row

    def arrays(self, key: str, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The arrays of a clip; see docs/data-preparation.md for their shapes.

        Args:
            key: of the clip.
            names: only these, those that there are; None means all.

        Raises:
            InputError: no such clip, or it is damaged.
        """
        try:
            found = load(self.bytes(key, "safetensors"))
        except SafetensorError as error:
            raise InputError(
                f"The arrays of the clip '{key}' are damaged ({error}); copy or prepare the set again."
            ) from error
        return found if names is None else {name: array for name, array in found.items() if name in names}

    def verify(self) -> None:
        """Hold every shard and the list of clips against the checksums of the manifest.

        Raises:
            InputError: naming the first file that differs.
        """
        wanted = [(self.shard(shard["name"]), shard["sha256"]) for shard in self.manifest["shards"]]
        for path, sha256 in [(self.folder / CLIPS, self.manifest["clips_sha256"]), *wanted]:
            if file_sha256(path) != sha256:
                raise InputError(
                    f"'{path}' is not the file that was prepared (its SHA-256 differs); copy or prepare the set again."
                )

    def _index(self, shard: str) -> dict[str, Place]:
        """Member -> where its bytes begin and how many there are; read once."""
        with self._lock:
            if shard not in self._places:
                path = self.shard(shard)
                try:
                    with tarfile.open(path, "r:") as archive:
                        self._places[shard] = {m.name: (m.offset_data, m.size) for m in archive if m.isfile()}
                except (OSError, tarfile.TarError) as error:
                    raise InputError(
                        f"The shard '{path}' cannot be read ({error}); copy or prepare the set again."
                    ) from error
            return self._places[shard]


def _manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    if not path.is_file():
        what = (
            "is not finished: give the command that prepares it again"
            if (root / "work").is_dir()
            else "is no prepared set"
        )
        raise InputError(f"The folder '{root}' has no {MANIFEST} and {what}; 'fantasytalking prepare' makes one.")
    try:
        manifest = json.loads(path.read_bytes())
        schema = manifest["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error!r}); give the command that prepared the set again.") from error
    if schema != SCHEMA:
        raise InputError(
            f"'{path}' is of version {schema}, and this release reads version {SCHEMA}; prepare the set again."
        )
    found: dict[str, Any] = manifest
    return found


def face_tracks(prepared: PreparedSet, split: str | None = None) -> list[FaceTrack]:
    """The clips as face tracks, in step already: what the embedded model is trained on.

    The file of a track is the clip's key with the ending mp4.
    """
    return [_track(prepared, row) for row in prepared.clips(split)]


def _track(prepared: PreparedSet, row: dict[str, Any]) -> FaceTrack:
    arrays = prepared.arrays(row["key"], ("points", "scores", "speech", "embedding"))
    info = ClipInfo(f"{row['key']}.mp4", *(row[name] for name in ("identity", "kind", "split", "source", "terms")))
    points, scores, embedding = (arrays[name].float().numpy() for name in ("points", "scores", "embedding"))
    return FaceTrack(info, points, scores, arrays["speech"].numpy().astype(np.float16), embedding)


def intensity(prepared: PreparedSet) -> IntensityScale:
    """The scale of motion intensity that the set's training clips give.

    Raises:
        InputError: the set has no training clip.
    """
    percentiles = prepared.manifest["percentiles"]
    if not percentiles:
        raise InputError(
            f"The prepared set '{prepared.folder}' has no training clip, so no scale of motion; prepare some."
        )
    return IntensityScale(torch.tensor([percentiles["w_face"], percentiles["w_body"]]).T.contiguous())
