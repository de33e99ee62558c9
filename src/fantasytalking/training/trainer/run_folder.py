"""The run folder: configuration, log, checkpoints. A checkpoint is complete or it does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fantasytalking.system.json import append_json_line, read_json_lines

PREFIX = "step-"


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The run's configuration."""
        return self.path / "config.json"

    @property
    def method(self) -> Path:
        """Settings of the objective beyond the configuration; only distillation has some."""
        return self.path / "distillation.json"

    @property
    def starts(self) -> Path:
        """Record of what each start of the run ran on, one JSON object per line (see `fantasytalking.training.trainer.start_record`)."""
        return self.path / "starts.jsonl"

    @property
    def events(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "tensorboard"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON line to ``log.jsonl``."""
        append_json_line(self.path / "log.jsonl", record)

    def records(self) -> list[dict[str, Any]]:
        """The log without what a killed run logged past its checkpoint and was logged again: the last record of each step and kind."""
        kept: dict[tuple[Any, bool], dict[str, Any]] = {}
        for record in read_json_lines(self.path / "log.jsonl"):
            key = (record.get("step"), "validation" in record)
            kept.pop(key, None)
            kept[key] = record
        return sorted(kept.values(), key=lambda record: record.get("step", 0))

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [p for p in self.path.glob(f"{PREFIX}*") if p.is_dir() and p.name.removeprefix(PREFIX).isdigit()]
        return sorted(found, key=lambda p: int(p.name.removeprefix(PREFIX)))

    def latest(self) -> Path | None:
        """The newest complete checkpoint, or None."""
        found = self.checkpoints()
        return found[-1] if found else None
