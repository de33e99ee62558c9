"""Checkpoints of a run: sharded, written in the background during training, and either complete or absent.

A checkpoint is a folder ``step-N``. Every process writes its part of the tensors to a safetensors file of its own; once all files are
written, the main process adds ``meta.json`` and gives the folder its name. Any number of processes can read it. Nothing in it is ever
unpickled; torch.distributed.checkpoint is not used because its index is a pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.run_folder import PREFIX, RunFolder
from fantasytalking.training.trainer.sharding import like, local, local_offset

FORMAT = 2
WEIGHTS, AVERAGE, OPTIMIZER, _AVERAGED = "model", "ema", "optimizer", "ema."
DAMAGE = (RuntimeError, KeyError, ValueError, TypeError, AttributeError, OSError, SafetensorError)
_POLL, _PATIENCE = 0.02, 1800  # seconds


@dataclass
class Checkpointer:
    """Writes and reads the checkpoints of a run; every process has its own instance and calls the same methods.

    Args:
        run: Folder of the run, which must be the same for all processes.
        engine: Engine whose trained parameters and optimiser are saved.
        average: Averaged weights by parameter name, overwritten on loading.
        keep: Number of checkpoints to keep.
    """

    run: RunFolder
    engine: Engine
    average: Mapping[str, Tensor]
    keep: int = 2
    _writer: threading.Thread | None = None
    _error: list[BaseException] = field(default_factory=list)

    def clear(self) -> None:
        """Delete incomplete checkpoints of killed runs, and old ones that they kept; call it before anything is saved."""
        if self.engine.is_main:
            for part in [*self.run.path.glob(f".{PREFIX}*.part"), *self.run.checkpoints()[: -self.keep]]:
                shutil.rmtree(part, ignore_errors=True)
        self.engine.wait_for_all()

    def save(self, step: int, extra: dict[str, Any]) -> Path:
        """Copy the current values and write them in the background, after waiting for any earlier checkpoint to be written.

        Args:
            step: Number of steps done.
            extra: JSON values to save with the weights.

        Returns:
            The folder, which appears when the checkpoint is complete.

        Raises:
            OutputError: The earlier checkpoint could not be written.
        """
        self.wait()
        tensors, numbers = self._snapshot()
        place = self._rank_and_count()
        # Serialised at once, as the caller keeps modifying `extra`.
        meta = json.dumps({"format": FORMAT, "step": step, "files": place[1], "extra": extra | {"optimizer": numbers}})
        job = _Job(self.run, step, tensors, meta, place, self.keep)
        self._writer = threading.Thread(target=self._write, args=(job,), name=f"checkpoint of step {step}", daemon=True)
        self._writer.start()
        return self.run.path / f"{PREFIX}{step}"

    def wait(self) -> None:
        """Wait until this process has written its part of the current checkpoint.

        Raises:
            OutputError: The checkpoint could not be written.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._error:
            error = self._error.pop()
            raise OutputError(
                f"The checkpoint could not be written to {self.run.path} ({error}); free some space and give the same command again."
            ) from error

    def settle(self, seconds: float = 60.0) -> None:
        """Wait a limited time for the current checkpoint when a run ends with an error."""
        if self._writer is not None:
            self._writer.join(seconds)

    def load(self, path: Path) -> tuple[int, dict[str, Any]]:
        """Restore weights, averages and optimiser state.

        Returns:
            The step, and the extra values saved with it.

        Raises:
            CheckpointError: The values do not fit, or a file is missing or damaged.
        """
        try:
            with Stored(path) as stored:
                self._restore(stored)
                return stored.step, stored.extra
        except DAMAGE as error:
            raise CheckpointError(
                f"The checkpoint {path} cannot be continued: {error}; {self.run.without(path)}."
            ) from error

    def _rank_and_count(self) -> tuple[int, int]:
        return (self.engine.rank, self.engine.processes) if self.engine.sharded else (self.engine.rank, 1)

    def _state(self) -> dict[str, dict[str, Any]]:
        """Optimiser state by parameter name."""
        state = self.engine.optimizer.state
        return {name: state[p] for name, p in self.engine.trainable().items() if p in state}

    def _snapshot(self) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, dict[str, Any]]]:
        """Map key -> (copy of the local part, the tensor it is part of), and the optimiser's plain numbers."""
        found: dict[str, Tensor] = {f"{WEIGHTS}.{k}": p.detach() for k, p in self.engine.trainable().items()}
        found |= {f"{AVERAGE}.{k}": v for k, v in self.average.items()}
        numbers: dict[str, dict[str, Any]] = {}
        for name, values in self._state().items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    found[f"{OPTIMIZER}.{key}.{name}"] = value
                else:
                    numbers.setdefault(name, {})[key] = value
        if self._rank_and_count()[0] >= self._rank_and_count()[1]:
            return {}, numbers  # a replica: the main process writes the same
        copies = {k: local(v).to("cpu", copy=True).contiguous() for k, v in found.items()}
        return {k: (copies[k], found[k]) for k in found}, numbers

    def _write(self, job: _Job) -> None:
        try:
            job.write()
        except BaseException as error:
            shutil.rmtree(self.run.path / f".{PREFIX}{job.step}.part", ignore_errors=True)
            self._error.append(error)

    def _restore(self, stored: Stored) -> None:
        parameters = self.engine.trainable()
        expected = {f"{WEIGHTS}.{k}": p for k, p in parameters.items()} | {
            f"{AVERAGE}.{k}": v for k, v in self.average.items()
        }
        stored.check(expected)
        values = {key: stored.part(key, tensor) for key, tensor in expected.items()}
        states = {name: self._stored_state(stored, name, p) for name, p in parameters.items()}
        with torch.no_grad():
            for key, tensor in expected.items():
                local(tensor).copy_(values[key])
        for name, state in states.items():
            if state:
                self.engine.optimizer.state[parameters[name]] = state

    def _stored_state(self, stored: Stored, name: str, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = dict(stored.extra.get("optimizer", {}).get(name, {}))
        for key in stored.optimizer_keys(name):
            whole = f"{OPTIMIZER}.{key}.{name}"
            if stored.shape(whole) == tuple(parameter.shape):
                part = stored.part(whole, parameter).to(local(parameter).device)
                state[key] = like(parameter, part)
            else:  # a step count, or a table of the 8-bit optimiser
                state[key] = stored.whole(whole).to("cpu" if key == "step" else local(parameter).device)
        if "step" in state and isinstance(state["step"], Tensor) and self.engine.device.type == "cuda":
            state["step"] = state["step"].to(self.engine.device)
        return state


@dataclass
class _Job:
    """The part of a checkpoint that one process writes."""

    run: RunFolder
    step: int
    tensors: dict[str, tuple[Tensor, Tensor]]
    meta: str
    place: tuple[int, int]
    keep: int

    def write(self) -> None:
        rank, count = self.place
        if rank >= count:
            return
        target = self.run.path / f"{PREFIX}{self.step}"
        temporary = self.run.path / f".{target.name}.part"
        temporary.mkdir(parents=True, exist_ok=True)
        places = {k: {"offset": local_offset(v), "shape": tuple(v.shape)} for k, (_, v) in self.tensors.items()}
        # Scalars such as step counts are equal in all processes and not sharded.
        mine = {k: part for k, (part, _) in self.tensors.items() if rank == 0 or part.ndim > 0}
        file = temporary / _name(rank, count)
        unfinished = file.with_suffix(".writing")
        save_file(mine, unfinished, metadata={"places": json.dumps(places)})
        _sync(unfinished)
        os.replace(unfinished, file)
        if rank == 0:
            self._finish(temporary, target, count)

    def _finish(self, temporary: Path, target: Path, count: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not all((temporary / _name(rank, count)).exists() for rank in range(count)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process did not write its part of step {self.step} in {_PATIENCE} s")
            time.sleep(_POLL)
        meta = temporary / "meta.json"
        meta.write_text(self.meta)
        _sync(meta)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        _sync(target.parent)
        for old in self.run.checkpoints()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)


class Stored:
    """Checkpoint on disk, read in pieces; a context manager.

    Raises:
        OSError, ValueError, SafetensorError: A file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        meta = json.loads((path / "meta.json").read_text())
        if meta.get("format") != FORMAT:
            raise ValueError(f"its format is {meta.get('format')}, but this version reads format {FORMAT}")
        self.step: int = meta["step"]
        self.extra: dict[str, Any] = meta["extra"]
        self.paths = [path / _name(rank, meta["files"]) for rank in range(meta["files"])]
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


def _name(rank: int, count: int) -> str:
    return f"rank-{rank:05d}-of-{count:05d}.safetensors"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
