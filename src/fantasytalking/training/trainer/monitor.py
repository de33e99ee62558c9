"""What a run says of itself: log lines, TensorBoard, and progress on the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.training.trainer.objective import Losses
from fantasytalking.training.trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch.utils.tensorboard import SummaryWriter

LEVELS = 4
"""Ranges of equal width of the noise level, for the loss by noise level."""
SUMS = 3 + 2 * LEVELS


def level_name(number: int) -> str:
    """Of a range of noise levels."""
    return f"{number / LEVELS:.2f}-{(number + 1) / LEVELS:.2f}"


def batch_sums(losses: Losses, sigma: Tensor) -> Tensor:
    """Sums over samples [SUMS], float64: loss, its lip part, its rest, then loss and number of samples of every noise level."""
    total, lips, rest = (x.detach().double().cpu() for x in (losses.total, losses.lips, losses.rest))
    level = (sigma.cpu() * LEVELS).long().clamp(0, LEVELS - 1)
    by_level = torch.zeros(LEVELS, dtype=torch.float64).index_add_(0, level, total)
    counts = torch.bincount(level, minlength=LEVELS).double()
    return torch.cat([torch.stack([total.sum(), lips.sum(), rest.sum()]), by_level, counts])


@dataclass
class Interval:
    """Sums since the last log line. They belong to a checkpoint, so that a resumed run logs what an undisturbed one logs.

    Attributes:
        steps: since the last line.
        samples: of the global batches.
        means: sums of each step's mean loss, lip part and rest, and of its gradient norm.
        levels: [2, LEVELS] sums of losses and numbers of samples by noise level.
    """

    steps: int = 0
    samples: int = 0
    means: list[float] = field(default_factory=lambda: [0.0] * 4)
    levels: list[list[float]] = field(default_factory=lambda: [[0.0] * LEVELS for _ in range(2)])

    def add(self, sums: Tensor, count: int, norm: float) -> None:
        """One step: sums of `batch_sums` over all processes, the global batch's size, the gradient norm."""
        step = [float(v) / count for v in sums[:3]] + [norm]
        self.means = [a + b for a, b in zip(self.means, step, strict=True)]
        for row, part in zip(self.levels, sums[3:].reshape(2, LEVELS).tolist(), strict=True):
            row[:] = [a + b for a, b in zip(row, part, strict=True)]
        self.steps, self.samples = self.steps + 1, self.samples + count

    def figures(self) -> dict[str, Any]:
        """Means over the interval's steps; `levels` has None where no sample had such a level."""
        loss, lips, rest, norm = (v / max(1, self.steps) for v in self.means)
        levels = [s / n if n else None for s, n in zip(*self.levels, strict=True)]
        return {"loss": loss, "lips": lips, "rest": rest, "norm": norm, "levels": levels}

    def state(self) -> dict[str, Any]:
        """As JSON values; floats survive exactly."""
        return {"steps": self.steps, "samples": self.samples, "means": self.means, "levels": self.levels}


class Monitor:
    """Writes the log of a run; only the main process has one.

    Args:
        run: its folder.
        step: that the run begins with; TensorBoard forgets what was written past it.
        end: last step.
        tensorboard: whether to write events; where TensorBoard is not installed a note says so.
        validate_every: steps between validations.
    """

    def __init__(self, run: RunFolder, step: int, end: int, tensorboard: bool, validate_every: int = 1) -> None:
        self.run, self.validate_every = run, validate_every
        self.writer = _writer(run, step) if tensorboard else None
        self.console = Console(step, end)

    def close(self) -> None:
        """Flush TensorBoard and leave the progress line."""
        if self.writer is not None:
            self.writer.close()
        self.console.close()

    def log(self, record: dict[str, Any]) -> None:
        """A line of losses and speeds: to ``log.jsonl``, TensorBoard and the terminal."""
        self.run.log(record)
        self._scalars(record["step"], scalars(record))
        self.console.show(record)

    def log_validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of the averaged weights."""
        record = {"step": step, "validation": dict(figures)}
        self.run.log(record)
        self._scalars(step, {f"validation/{k}": v for k, v in figures.items()})
        self.console.note(record)

    def log_picture(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """An RGB picture [H, W, 3], for TensorBoard alone."""
        if self.writer is not None:
            self.writer.add_image(name, picture, step, dataformats="HWC")

    def log_text(self, name: str, text: str) -> None:
        """A text, for TensorBoard alone."""
        if self.writer is not None:
            self.writer.add_text(name, text, 0)

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """TensorBoard's names of a log line's numbers."""
    found = {f"loss/{k}": record[key] for k, key in (("total", "loss"), ("lips", "lips"), ("rest", "rest"))}
    found[f"loss_by_stage/{record['stage']}"] = record["loss"]
    levels = {f"loss_by_noise/{level_name(i)}": value for i, value in enumerate(record["levels"]) if value is not None}
    names = {
        "norm": "optimizer/gradient_norm",
        "learning_rate": "optimizer/learning_rate",
        "samples_per_second": "speed/samples_per_second",
        "tokens_per_second": "speed/tokens_per_second",
        "steps_per_second": "speed/steps_per_second",
        "mfu": "speed/mfu",
        "memory_gib": "memory/peak_gib",
    }
    return found | levels | {name: record[key] for key, name in names.items() if record.get(key) is not None}


class Console:
    """Progress with time left: a bar on a terminal, otherwise one JSON object a line; both on stderr."""

    def __init__(self, step: int, end: int) -> None:
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        self.began, self.first, self.end = time.monotonic(), step, end
        if sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("step {task.completed}/{task.total}"), BarColumn(), TimeRemainingColumn())
            self.progress = Progress(
                *columns, TextColumn("{task.description}"), console=RichConsole(stderr=True), speed_estimate_period=600
            )
            self.task = self.progress.add_task("", total=end, completed=step)
            self.progress.start()

    def advance(self, step: int) -> None:
        """After each step."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=step)

    def show(self, record: Mapping[str, Any]) -> None:
        """A log line."""
        if self.progress is None or self.task is None:
            self.note(record)
            return
        self.progress.update(
            self.task, description=f"{record['stage']}: loss {record['loss']:.4f}, lips {record['lips']:.4f}"
        )

    def note(self, record: Mapping[str, Any]) -> None:
        """Anything else."""
        if self.progress is not None:
            self.progress.console.print(f"step {record['step']}: {record.get('validation', record)}")
        else:
            print(json.dumps(record), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.progress is not None:
            self.progress.stop()


def _writer(run: RunFolder, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(
            "TensorBoard is not installed, so only log.jsonl is written (pip install fantasytalking[train]).",
            file=sys.stderr,
        )
        return None
    return SummaryWriter(str(run.events), purge_step=step + 1 if step else None)
