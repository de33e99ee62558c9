"""The training loop: steps, averaged weights, checkpoints, validation. It does not depend on the model's inputs or the objective."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fantasytalking.errors import ResourceError, SettingsError
from fantasytalking.pipeline.progress import print_line
from fantasytalking.system.files import only_full_disk_error
from fantasytalking.system.json import append_json_line, write_json
from fantasytalking.system.prefetching import Prefetcher
from fantasytalking.training.trainer.averaging import exchanged, start_average, update_average
from fantasytalking.training.trainer.batches import Part, shares
from fantasytalking.training.trainer.callbacks import Callback, Moment, Validated
from fantasytalking.training.trainer.checkpoints import Checkpointer
from fantasytalking.training.trainer.config import LoopConfig, Schedule
from fantasytalking.training.trainer.data_check import raise_if_damaged, wait_for_check
from fantasytalking.training.trainer.engine import DivergenceError, Engine
from fantasytalking.training.trainer.monitor import Interval, Monitor, batch_sums, is_logged, sums_of
from fantasytalking.training.trainer.objective import Losses, Objective
from fantasytalking.training.trainer.resuming import Change, check_same_run, divergence, note_changes
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.signals import StopRequest
from fantasytalking.training.trainer.sources import Source
from fantasytalking.training.trainer.start_record import describe_start
from fantasytalking.training.trainer.throughput import Speedometer, measure_peak_flops

__all__ = ["Trainer", "learning_rate"]


def learning_rate(schedule: Schedule, step: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine decay to `final_fraction` of the peak."""
    if step < schedule.warmup:
        return schedule.learning_rate * (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return schedule.learning_rate * (schedule.final_fraction + (1 - schedule.final_fraction) * cosine)


class Trainer:
    """Trains a model on samples of a source, resuming from the newest checkpoint of the run folder.

    Args:
        model: Model whose parameters that require gradients are trained in place; only these are averaged and saved in checkpoints. The
            weights must be equal in all processes.
        source: Source of the samples.
        objective: Training method, which defines the loss and the contents of a batch.
        config: Configuration of the run.
        run: Folder of the run.
        callbacks: Validation and other hooks; the log is always written.

    Attributes:
        engine: Model, optimiser and device.
        ema: Averaged weights by parameter name.
        step: Number of global steps done.

    Raises:
        CheckpointError: The newest checkpoint of the run folder does not fit the model or is damaged.
        SettingsError: The run folder belongs to another configuration, method or data set.
    """

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        objective: Objective,
        config: LoopConfig,
        run: RunFolder,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.source, self.objective, self.config, self.run, self.callbacks = source, objective, config, run, callbacks
        if config.gradient_checkpointing:
            _enable_checkpointing(model)
        self._hollow = _hollow_copy(model)
        self.engine = Engine.create(
            model,
            config.stages[0].learning_rate,
            config.weight_decay,
            config.clip_norm,
            config.mixed_precision,
            fsdp=config.fsdp,
            optimizer=config.optimizer,
        )
        self.ema = start_average(self.engine.trainable())
        objective.begin(self.engine, self.ema)
        self.checkpoints = Checkpointer(run, self.engine, self.ema, config.keep)
        self.interval = Interval(objective.parts)
        self.step = self._saved = 0
        self._resume()

    def prepare(self, step: int, rows: Sequence[int] | None = None) -> Any:
        """Prepare the global batch of a step, or some rows of it, on the model's device.

        The result depends only on seed and step, not on the number of processes.
        """
        rows = range(len(self.source.plan(step))) if rows is None else rows
        return self.objective.prepare(self.source, step, rows).to(self.engine.device)

    def losses(self, step: int) -> Losses:
        """Run the forward pass of the whole global batch of a step."""
        return self.objective.losses(self.engine.model, self.prepare(step), step)

    def train(self, until: int | None = None) -> int:
        """Train to the end, or to the global step `until`; every process must call this.

        After Ctrl-C or SIGTERM, the current step is finished and a checkpoint written before the run stops.

        Returns:
            The step reached.

        Raises:
            ResourceError: The loss or its gradient is no longer finite; the checkpoints are not touched.
            OutputError: A checkpoint or the log could not be written.
            InputError: The data have turned out to be damaged (see `fantasytalking.training.trainer.data_check`).
            KeyboardInterrupt: The run was asked to stop.
        """
        with only_full_disk_error(self.run.path):
            return self._train(until)

    def _train(self, until: int | None) -> int:
        end = self.config.total_steps if until is None else min(self.config.total_steps, until)
        if self.step >= end:
            wait_for_check()
            return self.step
        monitor = Monitor(self.objective.parts, self.config.tensorboard)
        hooks = [monitor, *self.callbacks] if self.engine.is_main else []
        self.engine.model.train()
        try:
            for hook in hooks:
                hook.on_begin(self.run, self.step, end)
            with StopRequest() as stop, Prefetcher(self._parts, self.config.prefetch, self.config.total_steps) as ahead:
                stopped = self._steps(end, stop, ahead, hooks, self._speedometer(monitor))
            if self.step > self._saved:
                self.save()
            self.checkpoints.wait()
        finally:
            self.checkpoints.settle()
            for hook in hooks:
                hook.on_end()
        self.engine.wait_for_all()
        if stopped:
            if self.engine.is_main:
                print_line(
                    f"Stopped after step {self.step} of {self.config.total_steps}; its checkpoint is in {self.run.path}."
                )
            raise KeyboardInterrupt
        wait_for_check()
        return self.step

    def save(self) -> Path:
        """Start writing a checkpoint of the current step in the background; returns its folder.

        Raises:
            ResourceError: Weights are not finite; nothing is written.
        """
        try:
            self.engine.check_weights()
        except DivergenceError as error:
            raise self._divergence(error) from None
        self._saved = self.step
        return self.checkpoints.save(self.step, {"interval": self.interval.state()})

    def averaged(self) -> Any:
        """Copy the model, unsharded, with the averaged weights, for validation and release; every process must call this."""
        model = copy.deepcopy(self._hollow)
        model.load_state_dict(self.engine.whole_state(self.ema), assign=True)
        return model.eval().to(self.engine.device)

    def _resume(self) -> None:
        """Resume from the newest checkpoint if it belongs to this run, and record the start."""
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.checkpoints.clear()
        latest = self.run.latest()
        changed: list[Change] = []
        if latest is not None:
            changed = check_same_run(self.run, self.config, self.objective.method, self._fingerprint())
            self.step, kept = self.checkpoints.load(latest)
            self._saved = self.step
            self.interval = Interval(self.objective.parts, **kept.get("interval", {}))
        self.engine.wait_for_all()
        if self.engine.is_main:
            note_changes(self.run, self.step, changed)
            self.config.save(self.run.config)
            if self.objective.method:
                write_json(self.run.method, dict(self.objective.method), indent=1)
            start = describe_start(self.step, self.engine.processes, self._fingerprint(), [one.text for one in changed])
            append_json_line(self.run.starts, start)

    def _steps(
        self, end: int, stop: StopRequest, ahead: Prefetcher[list[Part]], hooks: Sequence[Callback], speed: Speedometer
    ) -> bool:
        """Train to `end`; returns whether the run was asked to stop earlier."""
        config, saved = self.config, time.monotonic()
        while self.step < end:
            schedule, inner = config.at(self.step)
            rate = learning_rate(schedule, inner)
            self.engine.set_learning_rate(rate)
            due = self.engine.is_main and (time.monotonic() - saved) / 60 > config.checkpoint_minutes
            try:
                due, asked = self._one_step(ahead.take(self.step), due, stop.asked, speed)
            except DivergenceError as error:
                raise self._divergence(error) from None
            # several processes agree on it a step later
            asked = asked or (stop.asked and self.engine.processes == 1)
            raise_if_damaged()
            for hook in hooks:
                hook.on_step(self.step)
            if is_logged(self.step, config.log_every):
                record = {"step": self.step, "stage": schedule.stage, **self.interval.figures(), "learning_rate": rate}
                record |= speed.figures(end - self.step)
                for hook in hooks:
                    hook.on_log(record)
                speed.restart()
                self.interval = Interval(self.objective.parts)
            if self.callbacks and self.step % config.validate_every == 0:
                self._validate(hooks)
                speed.restart()
            if asked:
                return self.step < end
            if due:
                self.save()
                saved = time.monotonic()
        return False

    def _divergence(self, error: DivergenceError) -> ResourceError:
        self.checkpoints.settle()
        return divergence(self.run, self.config, self.step, error, self.engine.is_main)

    def _one_step(self, parts: Sequence[Part], due: bool, asked: bool, speed: Speedometer) -> tuple[bool, bool]:
        """Run one optimiser step; returns what the processes agree on: whether a checkpoint is due, and whether to stop."""
        names = self.objective.parts
        width = sums_of(names)
        sums = torch.zeros(width + 2, dtype=torch.float64)
        sums[width:] = torch.tensor([float(due), float(asked)])
        for number, part in enumerate(parts):
            batch = part.batch.to(self.engine.device)
            losses = self.objective.losses(self.engine.model, batch, self.step)
            self.engine.backward(losses.total.sum() * part.weight, last=number == len(parts) - 1)
            if part.weight:
                sums[:width] += batch_sums(losses, names)
        sums = self.engine.sum_over_processes(sums)
        count = len(self.source.plan(self.step))
        self.engine.check_finite(float(sums[0]) / count)
        norm = self.engine.update()
        update_average(self.ema, self.engine.trainable(), self.step, self.config.ema)
        self.interval.add(sums[:width], count, norm)
        work = self.objective.workload(parts[0].batch)
        speed.add(count, work.tokens, work.operations)
        self.step += 1
        return bool(sums[width]), bool(sums[width + 1])

    def _parts(self, step: int) -> list[Part]:
        """This process's share of a global batch in up to `accumulate` parts; every process gets the same number."""
        size, count = self.engine.processes, len(self.source.plan(step))
        return [
            Part(self.objective.prepare(self.source, step, rows or [0]), size / count if rows else 0.0)
            for rows in shares(count, size, self.config.accumulate, self.engine.rank)
        ]

    def _validate(self, hooks: Sequence[Callback]) -> None:
        """Run the callbacks on the averaged weights, which stay sharded where possible: the model may be too large for one process."""
        moment = Moment(self.step, self.step // self.config.validate_every, self.run)
        if self.engine.is_main:
            print_line(f"{self.run.path.name}: validating after step {self.step}")
        found: list[Validated] = []
        apart = [one for one in self.callbacks if self.engine.sharded and not one.needs_whole_model]
        if apart:
            self.engine.reshard()
            with exchanged(self.ema, self.engine.trainable()):
                self.engine.model.eval()
                found += [one.on_validation(self.engine.model, moment) for one in apart]
                self.engine.model.train()
            self.engine.reshard()
        if len(apart) < len(self.callbacks):
            model = self.averaged()
            if self.engine.is_main:
                found += [one.on_validation(model, moment) for one in self.callbacks if one not in apart]
        figures = {name: value for one in found for name, value in one.figures.items()}
        pictures = {name: value for one in found for name, value in one.pictures.items()}
        for hook in hooks:
            hook.on_validated(self.step, Validated(figures, pictures))
        self.engine.wait_for_all()

    def _speedometer(self, monitor: Monitor) -> Speedometer:
        """Speedometer of the run, with the peak of the device if the objective counts its operations."""
        config, peak = self.config, self.config.peak_flops
        if self.engine.is_main and self.objective.counts_operations:
            origin = "measured by square matrix products" if peak is None else "as configured"
            if peak is None:
                kind = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
                peak = measure_peak_flops(self.engine.device, kind)
            text = f"Share of {peak:.3g} operations per second, {origin}; operations by formula."
            monitor.log_text("speed/mfu", text)
        return Speedometer(self.engine.device, self.engine.processes, peak)

    def _fingerprint(self) -> str | None:
        return getattr(self.source, "fingerprint", None)


def _hollow_copy(model: nn.Module) -> nn.Module:
    """Copy of a model whose parameters have shapes but no values, to build the whole model from sharded weights."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _enable_checkpointing(model: nn.Module) -> None:
    enable = getattr(model, "enable_gradient_checkpointing", None)
    if enable is None:
        raise SettingsError(f"{type(model).__name__} has no gradient checkpointing; leave gradient_checkpointing out.")
    enable()
