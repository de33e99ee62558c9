"""The run folder: configuration, log, checkpoints. A checkpoint is complete or it does not exist."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    def starts(self) -> Path:
        """What each start of the run ran on, a JSON object a line (see `fantasytalking.training.trainer.start_record`)."""
        return self.path / "starts.jsonl"

    @property
    def events(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "tensorboard"

    def log(self, record: dict[str, Any]) -> None:
        """Append one JSON line to ``log.jsonl``."""
        append_json(self.path / "log.jsonl", record)

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


def append_json(path: Path, record: dict[str, Any]) -> None:
    """Add a line; one that a killed process left unfinished is closed first."""
    line = json.dumps(record) + "\n"
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file of JSON lines; a line that was cut off is left out, and no file is no line."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
