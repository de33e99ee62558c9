"""Logging of a run: ``log.jsonl``, TensorBoard, and progress on the terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from fantasytalking.pipeline.progress import print_line, show_note, shown
from fantasytalking.training.trainer.callbacks import Callback, Validated
from fantasytalking.training.trainer.objective import Losses
from fantasytalking.training.trainer.run_folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LEVELS = 4
"""Number of equally wide ranges of the noise level in the loss by noise level."""


EARLY = (1, 2, 5)
"""A run shows these steps, and ten and a hundred times as many, before its first regular line."""


def is_logged(step: int, every: int) -> bool:
    """Whether the log has a line for a step: a function of the step alone, so that a resumed run writes the same log.

    Args:
        step: Number of steps done.
        every: Steps between lines, from the first multiple of it on.
    """
    early = step < every and any(step == digit * 10**power for digit in EARLY for power in range(len(str(step))))
    return early or step % every == 0


def level_name(number: int) -> str:
    """Name of a range of noise levels."""
    return f"{number / LEVELS:.2f}-{(number + 1) / LEVELS:.2f}"


def sums_of(names: Sequence[str]) -> int:
    """Length of the result of `batch_sums` for loss parts of these names."""
    return 1 + len(names) + 2 * LEVELS


def batch_sums(losses: Losses, names: Sequence[str]) -> Tensor:
    """Sum over samples, in float64: the loss, its named parts, then the loss and the number of samples of each noise level."""
    total = losses.total.detach().double().cpu()
    parts = [losses.parts[name].detach().double().cpu().sum() for name in names]
    by_level = torch.zeros(2, LEVELS, dtype=torch.float64)
    if losses.noise is not None:
        level = (losses.noise.cpu() * LEVELS).long().clamp(0, LEVELS - 1)
        by_level[0].index_add_(0, level, total)
        by_level[1] = torch.bincount(level, minlength=LEVELS).double()
    return torch.cat([torch.stack([total.sum(), *parts]), by_level.flatten()])


@dataclass
class Interval:
    """Sums since the last log line; saved in checkpoints, so that a resumed run writes the same log as an uninterrupted one.

    Attributes:
        names: Names of the loss parts.
        steps: Number of steps since the last line.
        samples: Number of samples in the global batches of these steps.
        means: Sums over steps of the mean loss, of its parts, and of the gradient norm.
        levels: Sums of losses and numbers of samples by noise level [2, LEVELS].
    """

    names: Sequence[str] = ()
    steps: int = 0
    samples: int = 0
    means: list[float] = field(default_factory=list)
    levels: list[list[float]] = field(default_factory=lambda: [[0.0] * LEVELS for _ in range(2)])

    def add(self, sums: Tensor, count: int, norm: float) -> None:
        """Add a step.

        Args:
            sums: Result of `batch_sums`, summed over all processes.
            count: Size of the global batch.
            norm: Gradient norm.
        """
        width = 1 + len(self.names)
        step = [float(v) / count for v in sums[:width]] + [norm]
        before = self.means or [0.0] * len(step)
        self.means = [a + b for a, b in zip(before, step, strict=True)]
        for row, part in zip(self.levels, sums[width:].reshape(2, LEVELS).tolist(), strict=True):
            row[:] = [a + b for a, b in zip(row, part, strict=True)]
        self.steps, self.samples = self.steps + 1, self.samples + count

    def figures(self) -> dict[str, Any]:
        """Means over the steps of the interval; with noise also `levels`, which has None for ranges without a sample."""
        keys = ("loss", *self.names, "norm")
        sums = self.means or [0.0] * len(keys)
        found: dict[str, Any] = {key: v / max(1, self.steps) for key, v in zip(keys, sums, strict=True)}
        if any(self.levels[1]):
            found["levels"] = [s / n if n else None for s, n in zip(*self.levels, strict=True)]
        return found

    def state(self) -> dict[str, Any]:
        """JSON values for a checkpoint; floats are restored exactly."""
        return {"steps": self.steps, "samples": self.samples, "means": self.means, "levels": self.levels}


class Monitor(Callback):
    """Callback that writes the log of a run: ``log.jsonl``, TensorBoard, and progress on the terminal.

    Args:
        names: Names of the loss parts.
        tensorboard: Whether to write TensorBoard events; if it is not installed, a note is printed instead.
    """

    def __init__(self, names: Sequence[str] = (), tensorboard: bool = True) -> None:
        self.names, self.tensorboard = names, tensorboard
        self.writer: SummaryWriter | None = None

    def on_begin(self, run: RunFolder, step: int, end: int) -> None:
        """Open the progress line and TensorBoard, which drops events written after this step."""
        self.run, self.console = run, Console(run.path.name, step, end, self.names)
        self.writer = _writer(run, step) if self.tensorboard else None

    def on_step(self, step: int) -> None:
        """Move the progress bar."""
        self.console.advance(step)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Write losses and speeds to ``log.jsonl``, TensorBoard and the terminal."""
        self.run.log(record)
        self._scalars(record["step"], scalars(record, self.names))
        self.console.show(record)

    def on_validated(self, step: int, found: Validated) -> None:
        """Write the figures of the averaged weights, and the pictures to TensorBoard only."""
        figures = {name: round(float(value), 4) for name, value in found.figures.items()}
        record = {"step": step, "validation": figures}
        self.run.log(record)
        self._scalars(step, {f"validation/{k}": v for k, v in figures.items()})
        self.console.validated(step, figures)
        for name, picture in found.pictures.items():
            if self.writer is not None:
                self.writer.add_image(name, picture, step, dataformats="HWC")

    def on_end(self) -> None:
        """Close TensorBoard and the progress line."""
        self.console.close()
        if self.writer is not None:
            with _quiet_writer_thread():
                self.writer.close()

    def log_text(self, name: str, text: str) -> None:
        """Write a text to TensorBoard only."""
        if self.writer is not None:
            self.writer.add_text(name, text, 0)

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.writer is not None:
            with _quiet_writer_thread():
                for name, value in values.items():
                    self.writer.add_scalar(name, value, step)
                # Here and not in a thread at any time, as an error would be printed there.
                self.writer.flush()


def scalars(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Numbers of a log line under their TensorBoard names; `names` are the loss parts."""
    found = {"loss/total": record["loss"]} | {f"loss/{name}": record[name] for name in names}
    found[f"loss_by_stage/{record['stage']}"] = record["loss"]
    by_level = enumerate(record.get("levels", ()))
    levels = {f"loss_by_noise/{level_name(i)}": value for i, value in by_level if value is not None}
    others = {
        "norm": "optimizer/gradient_norm",
        "learning_rate": "optimizer/learning_rate",
        "samples_per_second": "speed/samples_per_second",
        "tokens_per_second": "speed/tokens_per_second",
        "steps_per_second": "speed/steps_per_second",
        "mfu": "speed/mfu",
        "memory_gib": "memory/peak_gib",
    }
    return found | levels | {name: record[key] for key, name in others.items() if record.get(key) is not None}


class Console:
    """Progress on stderr: a bar with the time left on a terminal, otherwise a line for each line of the log.

    Args:
        name: Name of the part that is trained.
        step: Steps done before.
        end: Step at which training ends.
        names: Names of the loss parts.
    """

    def __init__(self, name: str, step: int, end: int, names: Sequence[str] = ()) -> None:
        self.name, self.end, self.names = name, end, names
        self.open = ExitStack()
        print_line(f"{name}: training from step {step} to {end}")
        step_of = TextColumn(f"{name}: step {{task.completed}}/{{task.total}}")
        columns = (step_of, BarColumn(), TimeRemainingColumn(), TextColumn("left"))
        self.bars = self.open.enter_context(shown(*columns, TextColumn("{task.description}")))
        self.task = None if self.bars is None else self.bars.add_task("", total=end, completed=step)

    def advance(self, step: int) -> None:
        """Move the progress bar to a step."""
        if self.bars is not None and self.task is not None:
            self.bars.update(self.task, completed=step)

    def show(self, record: Mapping[str, Any]) -> None:
        """Show a log line."""
        if self.bars is not None and self.task is not None:
            found = ", ".join(f"{name} {record[name]:.4f}" for name in ("loss", *self.names[:1]))
            self.bars.update(self.task, description=f"{record['stage']}: {found}")
            return
        found = ", ".join(f"{name} {record[name]:.4f}" for name in ("loss", *self.names))
        speed = "" if record.get("steps_per_second") is None else f", {record['steps_per_second']:.2f} steps/s"
        left = "" if record.get("minutes_left") is None else f", {record['minutes_left']:.1f} min left"
        print_line(f"{self.name}: step {record['step']} of {self.end}, {record['stage']}: {found}{speed}{left}")

    def validated(self, step: int, figures: Mapping[str, float]) -> None:
        """Show the figures of a validation."""
        found = ", ".join(f"{name} {value:g}" for name, value in figures.items())
        print_line(f"{self.name}: step {step}, validation: {found}")

    def close(self) -> None:
        """Close the progress bar."""
        self.open.close()


@contextmanager
def _quiet_writer_thread() -> Iterator[None]:
    """Keep TensorBoard's thread from printing a traceback of an error, which it also raises in this thread."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _writer(run: RunFolder, step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        show_note("TensorBoard is not installed, so only log.jsonl is written (pip install fantasytalking[train]).")
        return None
    return SummaryWriter(str(run.events), purge_step=step + 1 if step else None)
