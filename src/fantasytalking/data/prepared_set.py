"""Prepared sets: shards with a manifest, as `fantasytalking prepare` writes them, read clip by clip in any order.

The shards are plain WebDataset archives and can be streamed by that library too; this reader adds what a stream cannot give: any
clip by its key, without unpacking, and the rows that describe the clips. Letters: F frames, t speech tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fantasytalking.data.catalogue import CatalogueRow
from fantasytalking.data.face_tracks import FaceTrack
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.data.set_records import AGAIN, CLIPS, ClipRow, SetManifest, read_clips, read_manifest
from fantasytalking.data.set_verification import check_clips, verify_shards
from fantasytalking.data.shard_reader import ShardReader
from fantasytalking.errors import InputError
from fantasytalking.perception.mesh_points import NUM_POINTS

__all__ = ["PreparedSet", "face_tracks", "intensity"]


@dataclass
class PreparedSet:
    """A finished set.

    Attributes:
        folder: Where it lies.
        manifest: Content of `manifest.json`.
        rows: Content of `clips.jsonl`, dropped candidates included.
    """

    folder: Path
    manifest: SetManifest
    rows: list[ClipRow]
    _by_key: dict[str, ClipRow] = field(init=False, repr=False)
    _reader: ShardReader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_key = {row.key: row for row in self.rows if row.kept}
        self._reader = ShardReader(self.folder)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the list of clips and the shards; not of the manifest, which also says how long preparing them took."""
        content = [self.manifest.clips_sha256, [shard.sha256 for shard in self.manifest.shards]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @classmethod
    def open(cls, folder: Path | str) -> PreparedSet:
        """Open a set: check its manifest, the checksum of its list of clips, and that every shard is there in its full size.

        Args:
            folder: Folder of the set; a leading `~` is expanded.

        Raises:
            InputError: There is no set, it is unfinished, damaged or of another version, or a shard is missing or of another size.
        """
        root = Path(folder).expanduser()
        prepared = cls(root, read_manifest(root), read_clips(root))
        for shard in prepared.manifest.shards:
            path = prepared.shard(shard.name)
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                what = "is missing" if size is None else f"has {size} bytes instead of {shard.bytes}"
                raise InputError(f"The shard '{path}' {what}; {AGAIN}.")
        check_clips(prepared._reader, prepared.manifest, prepared.rows)
        return prepared

    def clips(self, split: str | None = None) -> list[ClipRow]:
        """Rows of the clips that were kept, of one split or of both, in the order of their keys."""
        return [row for row in self.rows if row.kept and split in (None, row.split)]

    def shard(self, name: str) -> Path:
        """Path of a shard."""
        return self._reader.path(name)

    def shards(self, split: str) -> list[Path]:
        """Paths of all shards of a split, for a reader that streams them."""
        return [self.shard(shard.name) for shard in self.manifest.shards if shard.split == split]

    def bytes(self, key: str, ending: str) -> bytes:
        """Content of one file of a clip.

        Args:
            key: Key of the clip.
            ending: mp4, flac, jpg, safetensors or json.

        Raises:
            InputError: There is no such clip, it has no such file, or the shard cannot be read.
        """
        if key not in self._by_key:
            raise InputError(f"The prepared set '{self.folder}' holds no clip '{key}'; its {CLIPS} lists them.")
        return self._reader.read(self._by_key[key].shard, key, ending)

    def json(self, key: str) -> dict[str, Any]:
        """Row of a clip as its shard has it."""
        row: dict[str, Any] = json.loads(self.bytes(key, "json"))
        return row

    def arrays(self, key: str, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Arrays of a clip by name; docs/data-preparation.md lists them with their shapes.

        Args:
            key: Key of the clip.
            names: Which of them, where the clip has them; None means all.

        Raises:
            InputError: There is no such clip, or it is damaged.
        """
        try:
            found = load(self.bytes(key, "safetensors"))
        except SafetensorError as error:
            raise InputError(f"The arrays of {self._name(key)} are damaged ({error}); {AGAIN}.") from error
        return found if names is None else {name: array for name, array in found.items() if name in names}

    def array(self, arrays: Mapping[str, Tensor], key: str, name: str, shape: Sequence[int | None]) -> Tensor:
        """One of the arrays of a clip, checked.

        Args:
            arrays: Arrays of the clip.
            key: Key of the clip.
            name: Name of the array.
            shape: Its size along each axis; None where any size will do.

        Raises:
            InputError: The array is missing, of another shape, or has values that are not finite.
        """
        found = arrays.get(name)
        if found is None:
            fault = "is missing"
        elif found.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
            wanted = " x ".join("any" if n is None else str(n) for n in shape)
            fault = f"has the shape {' x '.join(map(str, found.shape)) or 'of a number'} instead of {wanted}"
        elif found.is_floating_point() and not bool(found.isfinite().all()):
            fault = "has values that are not finite"
        else:
            return found
        file = self._by_key[key].file
        video = f"'{file}'" if file else "the video of this clip"
        raise InputError(
            f"The array '{name}' of {self._name(key)} {fault}, though the set may be as it was prepared; prepare the videos into another "
            f"folder, without {video}."
        )

    def verify(self, advance: Callable[[int], None] = lambda size: None) -> None:
        """Compare the list of clips and every shard with the checksums of the manifest.

        Args:
            advance: Called with the number of bytes of shards that were read; an exception that it raises ends the work.

        Raises:
            InputError: A file differs; the sentence names the first, and its damaged clips.
        """
        check_clips(self._reader, self.manifest, self.rows)
        verify_shards(self._reader, self.manifest, self.rows, advance)

    def _name(self, key: str) -> str:
        """A clip with its place, for a sentence."""
        return f"the clip '{key}' in the shard '{self.shard(self._by_key[key].shard)}'"


def face_tracks(prepared: PreparedSet, split: str | None = None) -> list[FaceTrack]:
    """Face tracks of the clips, already in sync: what the embedded model is trained on.

    The file of a track is the clip's key with the ending mp4.
    """
    return [_track(prepared, row) for row in prepared.clips(split)]


def _track(prepared: PreparedSet, row: ClipRow) -> FaceTrack:
    arrays = prepared.arrays(row.key, ("points", "scores", "speech", "embedding"))
    info = CatalogueRow(f"{row.key}.mp4", row.identity, row.kind, row.split, row.source, row.terms)
    points = prepared.array(arrays, row.key, "points", (row.frames, NUM_POINTS, 3))
    scores = prepared.array(arrays, row.key, "scores", (len(points),))
    speech = prepared.array(arrays, row.key, "speech", (None, None))
    embedding = prepared.array(arrays, row.key, "embedding", (None,))
    numbers = (
        points.float().numpy(),
        scores.float().numpy(),
        speech.numpy().astype(np.float16),
        embedding.float().numpy(),
    )
    return FaceTrack(info, *numbers)


def intensity(prepared: PreparedSet) -> IntensityScale:
    """Scale of motion intensity that the set's training clips give.

    Raises:
        InputError: The set has no training clip.
    """
    percentiles = prepared.manifest.percentiles
    if percentiles is None:
        raise InputError(
            f"The prepared set '{prepared.folder}' has no training clip, so no scale of motion; prepare some."
        )
    return IntensityScale.from_percentiles(percentiles.w_face, percentiles.w_body)
