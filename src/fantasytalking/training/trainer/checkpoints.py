"""Checkpoints of a run: sharded, written in the background during training, and either complete or absent.

A checkpoint is a folder ``step-N``. Every process writes its part of the tensors to a safetensors file of its own; once all files are
written, the main process adds ``meta.json`` with their checksums and gives the folder its name. Any number of processes can read it.
Nothing in it is ever unpickled; torch.distributed.checkpoint is not used because its index is a pickle.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.system.digests import file_sha256, json_sha256
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.run_folder import PREFIX, RunFolder
from fantasytalking.training.trainer.sharding import like, local, local_offset
from fantasytalking.training.trainer.stored_checkpoint import (
    AVERAGE,
    DAMAGE,
    DIGEST,
    FORMAT,
    META,
    OPTIMIZER,
    WEIGHTS,
    Stored,
    rank_file,
)

_CHECKSUM = ".sha256"
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
        # A copy, as the caller keeps modifying `extra`.
        whole = {"format": FORMAT, "step": step, "files": place[1], "extra": extra | {"optimizer": numbers}}
        meta: dict[str, Any] = json.loads(json.dumps(whole))
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
            with Stored(path, self.engine.rank, self.engine.processes) as stored:
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
    meta: dict[str, Any]
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
        file = temporary / rank_file(rank, count)
        unfinished = file.with_suffix(".writing")
        # Sorted, as the optimiser of a resumed run holds its values in another order, and the same content has the same checksum.
        save_file(mine, unfinished, metadata={"places": json.dumps(places, sort_keys=True)})
        _sync(unfinished)
        file.with_suffix(_CHECKSUM).write_text(file_sha256(unfinished), encoding="utf-8")
        os.replace(unfinished, file)
        if rank == 0:
            self._finish(temporary, target, count)

    def _finish(self, temporary: Path, target: Path, count: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not all((temporary / rank_file(rank, count)).exists() for rank in range(count)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process did not write its part of step {self.step} in {_PATIENCE} s")
            time.sleep(_POLL)
        files = [temporary / rank_file(rank, count) for rank in range(count)]
        whole = {
            **self.meta,
            "sha256": {file.name: file.with_suffix(_CHECKSUM).read_text(encoding="utf-8") for file in files},
        }
        for file in files:
            file.with_suffix(_CHECKSUM).unlink()
        meta = temporary / META
        meta.write_text(json.dumps({**whole, DIGEST: json_sha256(whole)}), encoding="utf-8")
        _sync(meta)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        _sync(target.parent)
        for old in self.run.checkpoints()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; Windows cannot do that for folders, and for files only where they can be written."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
