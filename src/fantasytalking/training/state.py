"""The run folder: configuration, log, checkpoints. A checkpoint is complete or it does not exist."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fantasytalking.errors import CheckpointError

_PREFIX = "step-"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The run's configuration."""
        return self.path / "config.json"

    def log(self, record: dict[str, Any]) -> None:
        """Append one JSON line to ``log.jsonl``."""
        with (self.path / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [p for p in self.path.glob(f"{_PREFIX}*") if p.is_dir() and p.name.removeprefix(_PREFIX).isdigit()]
        return sorted(found, key=lambda p: int(p.name.removeprefix(_PREFIX)))

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None."""
        found = self.checkpoints()
        return found[-1] if found else None


def save_checkpoint(
    run: RunFolder, step: int, model: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer, keep: int
) -> Path:
    """Write weights, averaged weights and optimiser state; the folder gets its name only when all is on disk."""
    target = run.path / f"{_PREFIX}{step}"
    temporary = run.path / f".{target.name}.part"
    for part in run.path.glob(f".{_PREFIX}*.part"):  # left by a run that was killed while it wrote
        shutil.rmtree(part, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary / "model.safetensors")
    save_file({k: v.contiguous() for k, v in ema.items()}, temporary / "ema.safetensors")
    torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
    for old in run.checkpoints()[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(path: Path, model: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_checkpoint` wrote and return its step.

    Raises:
        CheckpointError: the weights do not fit the model, or a file is missing or damaged.
    """
    try:
        model.load_state_dict(load_file(path / "model.safetensors"))
        for key, value in load_file(path / "ema.safetensors").items():
            ema[key].copy_(value)
        optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
    except (RuntimeError, KeyError, ValueError, EOFError, OSError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be continued: {error}; delete it to go on from the one before."
        ) from error
    return int(path.name.removeprefix(_PREFIX))
