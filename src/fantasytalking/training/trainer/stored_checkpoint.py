"""A checkpoint on disk: names of its files, checksums, and reading of whole tensors or of parts.

`fantasytalking.training.trainer.checkpoints` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fantasytalking.errors import CheckpointError
from fantasytalking.system.digests import file_sha256, json_sha256
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.sharding import local, local_offset

__all__ = ["AVERAGE", "DAMAGE", "DIGEST", "FORMAT", "META", "OPTIMIZER", "WEIGHTS", "Stored", "load_ema", "rank_file"]

FORMAT = 2
META, DIGEST = "meta.json", "digest"
WEIGHTS, AVERAGE, OPTIMIZER, _AVERAGED = "model", "ema", "optimizer", "ema."
DAMAGE = (RuntimeError, KeyError, ValueError, TypeError, AttributeError, OSError, SafetensorError)
"""What readers raise at files that are missing or damaged."""


class Stored:
    """Checkpoint on disk, read in pieces; a context manager.

    Args:
        path: Folder of the checkpoint.
        reader: Number of this process among those that read the checkpoint; each compares its share of the files with their checksums.
        readers: How many these are.

    Raises:
        OSError, ValueError, SafetensorError: A file is missing or damaged.
    """

    def __init__(self, path: Path, reader: int = 0, readers: int = 1) -> None:
        meta = json.loads((path / META).read_text(encoding="utf-8"))
        digest = meta.pop(DIGEST, None)
        if digest is not None and digest != json_sha256(meta):
            raise ValueError(f"{META} does not have the checksum that was stored with it")
        if meta.get("format") != FORMAT:
            raise ValueError(f"its format is {meta.get('format')}, but this version reads format {FORMAT}")
        self.step: int = meta["step"]
        self.extra: dict[str, Any] = meta["extra"]
        self.paths = [path / rank_file(rank, meta["files"]) for rank in range(meta["files"])]
        # checkpoints of earlier versions have no checksums
        for file in self.paths[reader::readers] if "sha256" in meta else ():
            if file_sha256(file) != meta["sha256"].get(file.name):
                raise ValueError(f"{file.name} does not have the checksum that was stored with it")
        # key -> (whole shape, [(file, offset)])
        self.places: dict[str, tuple[tuple[int, ...], list[tuple[int, tuple[int, ...]]]]] = {}
        self.files: list[Any] = []
        self._stack = ExitStack()

    def __enter__(self) -> Stored:
        for number, path in enumerate(self.paths):
            file = self._stack.enter_context(safe_open(path, "pt"))
            self.files.append(file)
            places = json.loads((file.metadata() or {})["places"])
            for key in file.keys():  # noqa: SIM118 - not a dict
                place = places[key]
                shape = tuple(place["shape"])
                self.places.setdefault(key, (shape, []))[1].append((number, tuple(place["offset"])))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a whole tensor."""
        return self.places[key][0]

    def optimizer_keys(self, name: str) -> list[str]:
        """Names of the optimiser values stored for a parameter."""
        found = []
        for key in self.places:
            part, _, rest = key.partition(".")
            value, _, parameter = rest.partition(".")
            if part == OPTIMIZER and parameter == name:
                found.append(value)
        return found

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Check that the checkpoint holds exactly these weights, in these shapes.

        Raises:
            ValueError: It does not.
        """
        kept = {key for key in self.places if not key.startswith(f"{OPTIMIZER}.")}
        odd = sorted(kept ^ expected.keys())
        if odd:
            raise ValueError(f"its weights are those of another model ({odd[0]} and {len(odd) - 1} more)")
        for key, tensor in expected.items():
            if self.shape(key) != tuple(tensor.shape):
                raise ValueError(f"{key} has the shape {self.shape(key)} there, but {tuple(tensor.shape)} here")

    def part(self, key: str, reference: Tensor) -> Tensor:
        """Read this process's part of a tensor sharded like `reference`, assembled from the files that hold it."""
        wanted, begin = local(reference), local_offset(reference)
        if wanted.ndim == 0:
            return self.whole(key)
        result: Tensor | None = None
        for number, offset in self.places[key][1]:
            piece = self.files[number].get_slice(key)
            size = piece.get_shape()
            low = [max(b, o) for b, o in zip(begin, offset, strict=True)]
            high = [min(b + w, o + s) for b, w, o, s in zip(begin, wanted.shape, offset, size, strict=True)]
            if any(last <= first for first, last in zip(low, high, strict=True)):
                continue
            values = piece[_slices(low, high, offset)]
            if result is None:
                result = values.new_empty(wanted.shape)
            result[_slices(low, high, begin)] = values
        return torch.empty_like(wanted, device="cpu") if result is None else result

    def whole(self, key: str) -> Tensor:
        """Read a whole tensor."""
        shape, places = self.places[key]
        if not shape:
            return self.files[places[0][0]].get_tensor(key)  # type: ignore[no-any-return]
        return self.part(key, torch.empty(shape, device="meta"))


def load_ema(run: RunFolder) -> dict[str, Tensor]:
    """Load the averaged weights of the trained parameters from a run's newest checkpoint.

    Returns:
        Parameter name -> whole tensor, on the CPU.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    latest = run.latest()
    if latest is None:
        raise CheckpointError(f"{run.path} holds no complete checkpoint; train first, or give another run folder.")
    try:
        with Stored(latest) as stored:
            return {k.removeprefix(_AVERAGED): stored.whole(k) for k in stored.places if k.startswith(_AVERAGED)}
    except DAMAGE as error:
        raise CheckpointError(f"The checkpoint {latest} cannot be read: {error}; {run.without(latest)}.") from error


def _slices(low: Sequence[int], high: Sequence[int], origin: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first - o, last - o) for first, last, o in zip(low, high, origin, strict=True))


def rank_file(rank: int, count: int) -> str:
    """Name of the file of one process in a checkpoint of `count` processes."""
    return f"rank-{rank:05d}-of-{count:05d}.safetensors"
