"""The run folder: configuration, log, checkpoints. A checkpoint is either complete or absent."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.folder_owner import owned
from fantasytalking.system.json import append_json_line, read_json_lines

PREFIX = "step-"

P = ParamSpec("P")
R = TypeVar("R")


class Check(Protocol):
    """A verification of the run's data that goes on while it trains (see `fantasytalking.training.trainer.data_check`)."""

    def raise_if_damaged(self) -> None:
        """Raise what was found so far."""

    def wait(self) -> None:
        """Wait for the end, and raise what was found."""


@dataclass
class RunInProgress:
    """The run of this process.

    Attributes:
        output: Its folder.
        at_end: What is done when it ends, however it ends.
        check: Verification of its data, as long as it may find something.
    """

    output: Path
    at_end: ExitStack
    check: Check | None = None


_run: ContextVar[RunInProgress | None] = ContextVar("_run", default=None)


def run_in_progress() -> RunInProgress | None:
    """The run that a function decorated with `owns_run` makes at the moment; None outside of one."""
    return _run.get()


def owns_run(train: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that trains into its argument `output`: it owns this folder from beginning to end, see `owned`.

    The processes of a distributed run own it together: the first one holds the lock, and the others wait for its files anyway. A function
    that is called by another one of the same run does not ask again.
    """
    signature = inspect.signature(train)

    @functools.wraps(train)
    def owning(*args: P.args, **kwargs: P.kwargs) -> R:
        output: Path = signature.bind(*args, **kwargs).arguments["output"]
        run = _run.get()
        if run is not None and run.output == output:
            return train(*args, **kwargs)
        with ExitStack() as at_end:
            if int(os.environ.get("RANK", 0)) == 0:
                at_end.enter_context(owned(output, "training in", kind="run folder", tell=show_note))
            at_end.callback(_run.reset, _run.set(RunInProgress(output, at_end)))
            return train(*args, **kwargs)

    return owning


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """File of the configuration."""
        return self.path / "config.json"

    @property
    def method(self) -> Path:
        """File of the objective's settings beyond the configuration; only distillation has any."""
        return self.path / "distillation.json"

    @property
    def starts(self) -> Path:
        """File with one JSON object for each start of the run (see `fantasytalking.training.trainer.start_record`)."""
        return self.path / "starts.jsonl"

    @property
    def events(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to ``log.jsonl``."""
        append_json_line(self.path / "log.jsonl", record)

    def records(self) -> list[dict[str, Any]]:
        """Records of the log: the last one for each step and kind, as steps past a checkpoint are logged again after a kill."""
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

    def without(self, checkpoint: Path) -> str:
        """What to do about a checkpoint that cannot be used, for messages."""
        others = [path.name for path in self.checkpoints() if path != checkpoint]
        return f"delete it, and {others[-1]} is used" if others else "delete it, and the run begins anew"
