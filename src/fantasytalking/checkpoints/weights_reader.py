"""Memory-mapped reading of weights, tensor by tensor: safetensors (one file or shards), torch files and GGUF files.

Opening reads names, shapes and types from the headers; values are read from the mapping when they are asked for. The
pages of a mapping that have been read count as memory of this process until the mapping is closed, so a reader
closes and reopens its mapping every `RELEASE_BYTES`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from fantasytalking.checkpoints.gguf_file import GGUF_SUFFIX, GgufFile
from fantasytalking.checkpoints.tensor_info import TensorInfo
from fantasytalking.errors import CheckpointError

__all__ = ["TORCH_SUFFIXES", "TensorInfo", "Weights", "indexed_shards", "open_weights"]

RELEASE_BYTES = 256 * 2**20
"""Bytes that are read from one mapping before it is closed and reopened."""
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.safetensors")
_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _File(Protocol):
    path: Path
    infos: dict[str, TensorInfo]
    metadata: dict[str, str]

    def get(self, key: str) -> torch.Tensor: ...

    def release(self) -> None: ...


class _SafetensorsFile:
    """One safetensors file; values are views of its mapping."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.infos: dict[str, TensorInfo] = {}
        header = _safetensors_header(path)
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        for key, entry in header.items():
            if entry["dtype"] not in _SAFETENSORS_TYPES:
                raise CheckpointError(
                    f"{path}: tensor {key} has the unsupported type {entry['dtype']}; accepted are "
                    f"{', '.join(_SAFETENSORS_TYPES)}; convert the file to one of them."
                )
            self.infos[key] = TensorInfo(tuple(entry["shape"]), _SAFETENSORS_TYPES[entry["dtype"]])
        self._handle: Any = None

    def get(self, key: str) -> torch.Tensor:
        if self._handle is None:
            try:
                self._handle = safe_open(str(self.path), framework="pt", device="cpu")
            except SafetensorError as error:
                raise _damaged(self.path, error) from error
        tensor: torch.Tensor = self._handle.get_tensor(key)
        return tensor

    def release(self) -> None:
        self._handle = None


class _TorchFile:
    """One torch file, read with `weights_only=True`, which refuses a pickle that names anything but tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self._tensors: dict[str, torch.Tensor] | None = None
        self.infos = {key: TensorInfo(tuple(value.shape), value.dtype) for key, value in self._load().items()}

    def _load(self) -> dict[str, torch.Tensor]:
        if self._tensors is None:
            content = _torch_load(self.path)
            while (
                isinstance(content, Mapping)
                and len(content) == 1
                and next(iter(content)) in ("state_dict", "model", "module")
            ):
                content = next(iter(content.values()))
            self._tensors = dict(_flatten(content, self.path))
        return self._tensors

    def get(self, key: str) -> torch.Tensor:
        return self._load()[key]

    def release(self) -> None:
        self._tensors = None


def _safetensors_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError(f"its header claims {length} bytes and the file has {size}")
            header: dict[str, Any] = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        if 8 + length + end > size:
            raise ValueError(f"it should have {8 + length + end} bytes and has {size}")
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    return header


def _torch_load(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files older than torch 1.6 are not zip archives and cannot be mapped.
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"names {named.group(1).rstrip('.')}, which could run code," if named else "is not a plain file of tensors"
        )
        raise CheckpointError(
            f"{path} was refused because its pickle {reason} and only tensors are accepted; get the file from its "
            "publisher, or ask them for a safetensors file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(path, error) from error


def _flatten(content: Any, path: Path, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor) and prefix:
        yield prefix[:-1], content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flatten(value, path, f"{prefix}{key}.")
    else:
        name = f"entry {prefix[:-1]}" if prefix else "content"
        raise CheckpointError(
            f"{path}: its {name} is a {type(content).__name__}, and only tensors in dicts are accepted; save the weights "
            "alone."
        )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    detail = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return CheckpointError(
        f"{path} cannot be read as weights ({detail}); it is damaged or incomplete, so download or copy it again."
    )


class Weights:
    """All tensors of a checkpoint by name, in one file or several.

    Args:
        path: The file or folder that was opened, for messages.
        files: The opened files.

    Attributes:
        infos: Shape and type of every tensor, by name, in the order of the files.
        metadata: Metadata of the safetensors headers, merged.
    """

    def __init__(self, path: Path, files: list[_File]) -> None:
        self.path = path
        self.infos: dict[str, TensorInfo] = {}
        self.metadata: dict[str, str] = {}
        self._files: dict[str, _File] = {}
        self._touched = 0
        self._last: _File | None = None
        for file in files:
            self.infos.update(file.infos)
            self.metadata.update(file.metadata)
            self._files.update(dict.fromkeys(file.infos, file))

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of the tensor `key`, from the header."""
        return self.infos[key].shape

    def stored(self, key: str) -> torch.Tensor:
        """The tensor `key` as it is stored, which differs from `get` where it is quantised in blocks."""
        file = self._files[key]
        return file.stored(key) if isinstance(file, GgufFile) else file.get(key)

    def get(self, key: str) -> torch.Tensor:
        """The tensor `key`, a view of the mapped file; its values are read from disk when they are used."""
        file = self._files[key]
        if self._last is not None and (file is not self._last or self._touched > RELEASE_BYTES):
            self.release()
        self._last = file
        self._touched += self.infos[key].nbytes
        return file.get(key)

    def release(self) -> None:
        """Close the mapping in use, so that its pages stop counting as memory of this process."""
        if self._last is not None:
            self._last.release()
        self._last, self._touched = None, 0


def open_weights(path: str | Path, stem: str | None = None) -> Weights:
    """Open a checkpoint without reading its values.

    Args:
        path: A `.safetensors` file, a torch file, a `.safetensors.index.json`, or a folder that holds one
            checkpoint as safetensors.
        stem: File name before `.safetensors`, for a folder with several checkpoints.

    Returns:
        The open checkpoint.

    Raises:
        CheckpointError: The path does not exist, a shard is missing, a file is damaged, or a pickle names anything
            but tensors.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"There are no weights at {path}; give a .safetensors, .gguf or torch file, or a folder that holds one."
        )
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path} is not readable for this user; change its permissions.")
    if path.is_dir():
        return Weights(path, [_SafetensorsFile(shard) for shard in _folder_shards(path, stem)])
    if path.name.endswith(".safetensors.index.json"):
        return Weights(path, [_SafetensorsFile(shard) for shard in _complete_shards(path)])
    if path.suffix == ".safetensors":
        return Weights(path, [_SafetensorsFile(path)])
    if path.suffix in TORCH_SUFFIXES:
        return Weights(path, [_TorchFile(path)])
    if path.suffix == GGUF_SUFFIX:
        return Weights(path, [GgufFile(path)])
    raise CheckpointError(
        f"{path} is not a weights file; accepted are .safetensors, {GGUF_SUFFIX}, {', '.join(TORCH_SUFFIXES)} and folders of safetensors."
    )


def _folder_shards(folder: Path, stem: str | None) -> list[Path]:
    indices = sorted(folder.glob(f"{stem or '*'}.safetensors.index.json"))
    if len(indices) == 1:
        return _complete_shards(indices[0])
    files = sorted(folder.glob(f"{stem or '*'}.safetensors")) or sorted(
        folder.glob(f"{stem or '*'}-*-of-*.safetensors")
    )
    groups = {match["stem"] if (match := _SHARD.fullmatch(file.name)) else file.name for file in files}
    if len(groups) != 1 or len(indices) > 1:
        what = (
            "holds no safetensors weights"
            if not files and not indices
            else f"holds several checkpoints ({', '.join(sorted(groups))})"
        )
        raise CheckpointError(
            f"The folder {folder} {what}; give the file itself or a folder with exactly one checkpoint."
        )
    match = _SHARD.fullmatch(files[0].name)
    if match:
        names = [f"{match['stem']}-{i:05d}-of-{match['count']}.safetensors" for i in range(1, int(match["count"]) + 1)]
        _require_shards(folder, names)
        return [folder / name for name in names]
    return files


def indexed_shards(index: Path) -> list[Path]:
    """The files that an index (`*.index.json`) names, which need not exist.

    Args:
        index: The index; its files lie beside it.

    Raises:
        CheckpointError: It is damaged, or names a file outside its folder.
    """
    try:
        found = sorted(
            {index.parent / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(index, error) from error
    # whoever made the weights wrote the names: `..` or a whole path would open any file of this machine (CVE-2026-69112 in accelerate)
    outside = [file for file in found if file.parent != index.parent]
    if outside:
        raise CheckpointError(
            f"{index} names the weights file {outside[0]}, which is outside its folder; get the model from a source that you trust."
        )
    return found


def _complete_shards(index: Path) -> list[Path]:
    shards = indexed_shards(index)
    _require_shards(index.parent, [shard.name for shard in shards])
    return shards


def _require_shards(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"The weights folder {folder} lacks {len(missing)} of {len(names)} shards ({', '.join(missing[:5])}); "
            "download or copy it again."
        )
