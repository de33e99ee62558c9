"""Write safetensors in shards, tensor by tensor, so that only one tensor is in memory however large the checkpoint."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fantasytalking.errors import OutputError
from fantasytalking.system.files import atomic_path

__all__ = ["Entry", "write_checkpoint"]

MAX_SHARD_BYTES = 5 * 10**9
"""Default size limit of one weights file, in bytes."""
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Entry(NamedTuple):
    """One tensor to write: its name, shape and type for the header, and a function that reads its values.

    Attributes:
        name: Name in the file.
        shape: Shape of the values.
        dtype: Type in the file; values of another type are cast.
        read: Returns the values; called once, when the tensor is written.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_checkpoint(
    folder: Path, stem: str, entries: Iterable[Entry], max_shard_bytes: int = MAX_SHARD_BYTES
) -> list[Path]:
    """Write a checkpoint as one safetensors file, or as shards with an index if it is larger than one shard.

    Each file gets its name once it is complete, and the index is written last.

    Args:
        folder: The folder to write to; created if it is missing.
        stem: File name before `.safetensors`: `diffusion_pytorch_model` or `model`.
        entries: The tensors to write.
        max_shard_bytes: Largest size of the values in one file, in bytes; a tensor that is larger has a file of its
            own.

    Returns:
        The files written, the index last.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    shards = _split(list(entries), max_shard_bytes)
    count = len(shards)
    names = [f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    if count == 1:
        names = [f"{stem}.safetensors"]
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, shard in zip(names, shards, strict=True):
            with atomic_path(folder / name, overwrite=True) as temporary:
                _write_file(shard, temporary)
            written.append(folder / name)
        if count > 1:
            index: dict[str, dict[str, Any]] = {
                "metadata": {"total_size": sum(entry.nbytes for shard in shards for entry in shard)},
                "weight_map": {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard},
            }
            written.append(folder / f"{stem}.safetensors.index.json")
            with atomic_path(written[-1], overwrite=True) as temporary:
                temporary.write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"{folder} cannot be written ({reason}); choose a writable folder with enough space."
        ) from error
    return written


def _split(entries: list[Entry], limit: int) -> list[list[Entry]]:
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    return shards


def _write_file(entries: list[Entry], path: Path) -> None:
    # Widest types first, as the safetensors library itself writes them, so that every tensor is aligned.
    entries = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for entry in entries:
            value = entry.read()
            assert tuple(value.shape) == entry.shape, (
                f"{entry.name} has the shape {tuple(value.shape)}, not {entry.shape}"
            )
            value = value.to(entry.dtype).contiguous().reshape(-1)
            file.write(value.view(torch.uint8).numpy().data)
