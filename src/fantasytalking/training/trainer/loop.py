"""The training loop of the transformer: both stages, averaged weights, checkpoints, validation."""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fantasytalking.data.samples import Batch, collate
from fantasytalking.errors import SettingsError
from fantasytalking.system.json import append_json_line, read_json_lines
from fantasytalking.training.trainer.averaging import exchanged, start_average, update_average
from fantasytalking.training.trainer.batches import Part, shares
from fantasytalking.training.trainer.checkpoints import Checkpointer
from fantasytalking.training.trainer.config import MAY_CHANGE, StageSchedule, TrainConfig, differences
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.monitor import SUMS, Interval, Monitor, batch_sums
from fantasytalking.training.trainer.objective import Losses, flow_loss, target_of
from fantasytalking.training.trainer.random_draws import StepDraws, sample_rng
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.signals import StopRequest
from fantasytalking.training.trainer.sources import SampleSource
from fantasytalking.training.trainer.stages import STAGES
from fantasytalking.training.trainer.start_record import describe_start
from fantasytalking.training.trainer.throughput import Speedometer, measure_peak_flops
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

if TYPE_CHECKING:
    from fantasytalking.training.trainer.validation_videos import ValidationVideos

Validate = Callable[[FantasyTalkingTransformer3DModel], Mapping[str, float]]


def learning_rate(schedule: StageSchedule, step: int) -> float:
    """Linear warm-up, then cosine to `final_fraction` of the peak."""
    if step < schedule.warmup:
        return schedule.learning_rate * (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return schedule.learning_rate * (schedule.final_fraction + (1 - schedule.final_fraction) * cosine)


@dataclass
class Trainer:
    """Trains a transformer on samples.

    Args:
        config: the run.
        source: where samples come from.
        run: where the run is kept.
        model: what is trained: its parameters that require gradients, which alone are averaged and kept in checkpoints. None: a new
            model of `config.model`, all of it.
        validate: called in the main process with the averaged weights every `validate_every` steps; its figures are logged. Where a model
            that was handed in is sharded, every process calls it with the sharded model, which then holds the averaged weights.
        videos: rendered after each validation, not where a model that was handed in is sharded.

    Raises:
        CheckpointError: the run folder's newest checkpoint does not fit the model or is damaged.
        SettingsError: the run folder is that of another configuration or of other data.
    """

    config: TrainConfig
    source: SampleSource
    run: RunFolder
    model: FantasyTalkingTransformer3DModel | None = None
    validate: Validate | None = None
    videos: ValidationVideos | None = None
    _ahead: dict[int, Future[list[Part]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        model = FantasyTalkingTransformer3DModel(**config.model) if self.model is None else self.model
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        rate = config.stages[0].learning_rate
        self.engine = Engine.create(
            model,
            rate,
            config.weight_decay,
            config.clip_norm,
            config.mixed_precision,
            fsdp=config.fsdp,
            optimizer=config.optimizer,
        )
        self.ema = start_average(self.engine.trainable())
        self._sizes = dict(model.config)
        self._trained = sum(v.numel() for v in self.ema.values()) / sum(p.numel() for p in model.parameters())
        self.checkpoints = Checkpointer(self.run, self.engine, self.ema, config.keep)
        self.interval = Interval()
        self.step = self._saved = 0
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.checkpoints.clear()
        latest = self.run.latest()
        if latest is not None:
            self._check_same_run()
            self.step, kept = self.checkpoints.load(latest)
            self._saved = self.step
            self.interval = Interval(**kept["interval"])
        self.engine.wait_for_all()
        if self.engine.is_main:
            config.save(self.run.config)
            start = describe_start(self.step, self.engine.processes, self._fingerprint())
            append_json_line(self.run.starts, start)

    def batch(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """Some rows of the global batch of a step, or all: a pure function of seed and step, whatever the number of processes."""
        keys = self.source.plan(step)
        rows = range(len(keys)) if rows is None else rows
        return self._collate(step, keys, self.draws(step, rows, len(keys)))

    def draws(self, step: int, rows: Sequence[int] | None = None, count: int | None = None) -> StepDraws:
        """Noise levels and drops of some rows of the global batch of a step, or of all."""
        count = len(self.source.plan(step)) if count is None else count
        return StepDraws.draw(self.config.seed, step, count, self.config.shift, self.config.dropout, rows)

    def losses(self, step: int) -> Losses:
        """Forward pass of the whole global batch of a step."""
        return self._forward(Part(self.batch(step), self.draws(step), 1.0), step)

    def train(self, until: int | None = None) -> int:
        """Run to the end, or to the global step `until`; returns the step reached.

        Every process must call this. What was asked for by Ctrl-C or SIGTERM is done after the present step, with a checkpoint.

        Raises:
            ResourceError: the loss or its gradient is no longer finite; the checkpoints are untouched.
            OutputError: a checkpoint could not be written.
            KeyboardInterrupt: the run was asked to stop.
        """
        end = self.config.total_steps if until is None else min(self.config.total_steps, until)
        if self.step >= end:
            return self.step
        monitor = (
            Monitor(self.run, self.step, end, self.config.tensorboard, self.config.validate_every)
            if self.engine.is_main
            else None
        )
        self.engine.model.train()
        try:
            with StopRequest() as stop:
                stopped = self._steps(end, stop, monitor)
            if self.step > self._saved:
                self.save()
            self.checkpoints.wait()
        finally:
            self.checkpoints.settle()
            self._forget_ahead()
            if monitor is not None:
                monitor.close()
        self.engine.wait_for_all()
        if stopped:
            if self.engine.is_main:
                print(
                    f"Stopped after step {self.step} of {self.config.total_steps}; its checkpoint is in {self.run.path}. "
                    "Give the same command again to go on.",
                    file=sys.stderr,
                )
            raise KeyboardInterrupt
        return self.step

    def save(self) -> Path:
        """Begin to write a checkpoint of the present step; training may go on meanwhile."""
        self._saved = self.step
        return self.checkpoints.save(self.step, {"interval": self.interval.state()})

    def averaged(self) -> FantasyTalkingTransformer3DModel:
        """A copy of the model with the averaged weights, for validation and release; every process must call this."""
        values = self.engine.full_state(self.ema)
        if self.model is None:
            model = FantasyTalkingTransformer3DModel(**self.config.model)
            model.load_state_dict(values)
        elif self.engine.sharded:
            raise SettingsError(
                "A model that was handed in is not put together again where weights are sharded; load_ema reads its averaged weights."
            )
        else:
            model = copy.deepcopy(self.engine.bare_model)
            model.load_state_dict(values, strict=False)
        return model.eval().to(self.engine.device)

    def _steps(self, end: int, stop: StopRequest, monitor: Monitor | None) -> bool:
        """Train to `end`; whether it was asked to stop before."""
        config, saved = self.config, time.monotonic()
        speed = self._speedometer(monitor)
        while self.step < end:
            schedule, inner = config.at(self.step)
            rate = learning_rate(schedule, inner)
            self.engine.set_learning_rate(rate)
            due = self.engine.is_main and (time.monotonic() - saved) / 60 > config.checkpoint_minutes
            due, asked = self._one_step(due, stop.asked, speed)
            if monitor is not None:
                monitor.console.advance(self.step)
            if self.step % config.log_every == 0:
                if monitor is not None:
                    record = {"step": self.step, "stage": schedule.stage} | self.interval.figures()
                    monitor.log(record | {"learning_rate": rate} | speed.figures(end - self.step))
                speed.restart()
                self.interval = Interval()
            if self.step % config.validate_every == 0:
                self._validate(monitor)
                speed.restart()
            if asked:
                return self.step < end
            if due:
                self.save()
                saved = time.monotonic()
        return False

    def _one_step(self, due: bool, asked: bool, speed: Speedometer) -> tuple[bool, bool]:
        """One optimiser step; returns what the processes agree on: whether a checkpoint is due, and whether to stop."""
        parts = self._take_parts(self.step)
        sums = torch.zeros(SUMS + 2, dtype=torch.float64)
        sums[SUMS:] = torch.tensor([float(due), float(asked)])
        for number, part in enumerate(parts):
            losses = self._forward(part, self.step)
            self.engine.backward(losses.total.sum() * part.weight, last=number == len(parts) - 1)
            if part.weight:
                sums[:SUMS] += batch_sums(losses, part.draws.sigma)
        sums = self.engine.sum_over_processes(sums)
        count = len(self.source.plan(self.step))
        self.engine.check_finite(float(sums[0]) / count)
        norm = self.engine.update()
        update_average(self.ema, self.engine.trainable(), self.step, self.config.ema)
        self.interval.add(sums[:SUMS], count, norm)
        speed.add(
            tuple(parts[0].batch.latents.shape[1:]), count, count * parts[0].operations(self._sizes, self._trained)
        )
        self.step += 1
        return bool(sums[SUMS]), bool(sums[SUMS + 1])

    def _forward(self, part: Part, step: int) -> Losses:
        stage = STAGES[self.config.at(step)[0].stage]
        latents = part.batch.latents.float()
        target = target_of(latents, part.draws.noise(latents.shape[1:]), part.draws.sigma).to(self.engine.device)
        batch = part.batch.to(self.engine.device)
        inputs = torch.cat([target.noisy, batch.condition.float()], 1)
        output = self.engine.model(inputs, 1000 * target.sigma, batch.conditions)
        return flow_loss(output.sample, target, batch.lip_mask, stage, p=part.draws.lips)

    def _collate(self, step: int, keys: Sequence[Any], draws: StepDraws) -> Batch:
        samples = [self.source.sample(keys[i], sample_rng(self.config.seed, step, i)) for i in draws.rows]
        stage = STAGES[self.config.at(step)[0].stage]
        return collate(samples, stage.audio, self.config.dropout, self.config.identity_scale, kept=draws.kept)

    def _parts(self, step: int) -> list[Part]:
        """This process's share of a global batch, cut into `accumulate` parts; all processes get equally many."""
        keys = self.source.plan(step)
        size, count = self.engine.processes, len(keys)
        parts = []
        for rows in shares(count, size, self.config.accumulate, self.engine.rank):
            draws = self.draws(step, rows or [0], count)
            parts.append(Part(self._collate(step, keys, draws), draws, size / count if rows else 0.0))
        return parts

    def _take_parts(self, step: int) -> list[Part]:
        if not self.config.prefetch:
            return self._parts(step)
        if not hasattr(self, "_pool"):
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="samples")
        last = min(step + self.config.prefetch, self.config.total_steps - 1)
        for number in range(step, max(step, last) + 1):
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._parts, number)
        return self._ahead.pop(step).result()

    def _forget_ahead(self) -> None:
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def _validate(self, monitor: Monitor | None) -> None:
        if self.validate is None and self.videos is None:
            return
        figures: dict[str, float] = {}
        if self.model is not None and self.engine.sharded:
            # too large for one process: all of them validate together
            self.engine.reshard()
            with exchanged(self.ema, self.engine.trainable()):
                self.engine.model.eval()
                figures |= {} if self.validate is None else self.validate(self.engine.model)  # type: ignore[arg-type]
                self.engine.model.train()
            self.engine.reshard()
        else:
            model = self.averaged()
            if monitor is not None:
                figures |= {} if self.validate is None else self.validate(model)
                figures |= {} if self.videos is None else self.videos(model, self.step, monitor)
        if monitor is not None:
            monitor.log_validation(self.step, {k: round(float(v), 4) for k, v in figures.items()})
        self.engine.wait_for_all()

    def _speedometer(self, monitor: Monitor | None) -> Speedometer:
        config, peak = self.config, self.config.peak_flops
        if peak is None and monitor is not None:
            peak = measure_peak_flops(
                self.engine.device, torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
            )
        if monitor is not None:
            origin = "measured by square matrix products" if config.peak_flops is None else "as configured"
            monitor.log_text(
                "speed/mfu", f"Share of {peak:.3g} operations per second, {origin}; operations by formula."
            )
        patch = tuple(self._sizes["patch_size"])
        return Speedometer(self.engine.device, self.engine.processes, patch, peak)

    def _fingerprint(self) -> str | None:
        return getattr(self.source, "fingerprint", None)

    def _check_same_run(self) -> None:
        if not self.run.config.exists():
            return
        # through JSON, which knows no tuples
        stored, now = json.loads(self.run.config.read_text()), json.loads(json.dumps(asdict(self.config)))
        changed = [row for row in differences(stored, now) if row.split(":")[0].split(".")[0] not in MAY_CHANGE]
        starts = read_json_lines(self.run.starts)
        data = starts[-1].get("data") if starts else None
        if data is not None and self._fingerprint() not in (None, data):
            changed.append(f"data: checksum {data[:12]} there, {str(self._fingerprint())[:12]} now")
        if changed:
            raise SettingsError(
                f"{self.run.path} holds a run with other settings ({'; '.join(changed)}); give it those settings to go on, "
                "or another run folder for a new run."
            )
