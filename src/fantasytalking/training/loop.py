"""The training loop of the transformer: both stages, averaged weights, checkpoints, validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fantasytalking.data.sample import Batch, Sample, collate
from fantasytalking.geometry import TIME_STRIDE
from fantasytalking.training.config import StageSchedule, TrainConfig
from fantasytalking.training.engine import Engine
from fantasytalking.training.objective import Losses, flow_loss, make_target
from fantasytalking.training.stages import STAGES
from fantasytalking.training.state import RunFolder, load_checkpoint, save_checkpoint
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

Draw = Callable[[np.random.Generator], Sample]
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
        draws: window length in frames -> function that draws one sample.
        run: where the run is kept.
        validate: called with the averaged weights every `validate_every` steps; its figures are logged.

    Raises:
        CheckpointError: the run folder's newest checkpoint does not fit `config.model` or is damaged.
    """

    config: TrainConfig
    draws: Mapping[int, Draw]
    run: RunFolder
    validate: Validate | None = None

    def __post_init__(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        model = FantasyTalkingTransformer3DModel(**config.model)
        if config.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        self.engine = Engine.create(
            model, config.stages[0].learning_rate, config.weight_decay, config.clip_norm, config.mixed_precision
        )
        self.ema = {k: v.detach().clone() for k, v in self.engine.bare_model.state_dict().items()}
        self.step = 0
        self.run.path.mkdir(parents=True, exist_ok=True)
        config.save(self.run.config)
        latest = self.run.latest()
        if latest is not None:
            self.step = load_checkpoint(latest, self.engine.bare_model, self.ema, self.engine.optimizer)

    def batch(self, step: int) -> Batch:
        """The batch of a step: a pure function of seed, step and process."""
        config = self.config
        seed = (config.seed, step, self.engine.rank)
        rng = np.random.default_rng(seed)
        # all processes must agree on the length, or they wait for each other
        frames = int(np.random.default_rng((config.seed, step)).choice(config.frames))
        latent_frames = (frames - 1) // TIME_STRIDE + 1
        samples = [self.draws[frames](rng) for _ in range(max(1, config.batch_tokens // latent_frames))]
        stage = STAGES[config.at(step)[0].stage]
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return collate(samples, stage.audio, config.dropout, config.identity_scale, generator)

    def losses(self, step: int) -> Losses:
        """Forward pass of one step."""
        config = self.config
        batch = self.batch(step)
        stage = STAGES[config.at(step)[0].stage]
        generator = torch.Generator().manual_seed(hash((config.seed, step, self.engine.rank, 1)) % 2**62)
        device = self.engine.device
        target = make_target(batch.latents, config.shift, generator)
        inputs = torch.cat([target.noisy, batch.condition], 1).to(device)
        output = self.engine.model(inputs, (1000 * target.sigma).to(device), batch.conditions.to(device))
        return flow_loss(output.sample.cpu(), target, batch.lip_mask, stage, generator)

    def train(self, until: int | None = None) -> int:
        """Run to the end, or to the global step `until`; returns the step reached.

        Raises:
            ResourceError: the loss or its gradient is no longer finite; the checkpoints are untouched.
        """
        config = self.config
        end = config.total_steps if until is None else min(config.total_steps, until)
        started, saved = time.monotonic(), time.monotonic()
        first, sums, count = self.step, torch.zeros(4), 0
        self.engine.model.train()
        while self.step < end:
            schedule, inner = config.at(self.step)
            self.engine.set_learning_rate(learning_rate(schedule, inner))
            losses = self.losses(self.step)
            norm = self.engine.step(losses.total.mean())
            self._average()
            self.step += 1
            sums += torch.tensor([*(float(x.detach().mean()) for x in (losses.total, losses.lips, losses.rest)), norm])
            count += 1
            if self.step % config.log_every == 0 and self.engine.is_main:
                self._log(schedule.stage, sums / count, started, first, end)
                sums, count = torch.zeros(4), 0
            if self.validate is not None and self.step % config.validate_every == 0 and self.engine.is_main:
                self._validate()
            if self.engine.is_main and (time.monotonic() - saved) / 60 > config.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
        if self.engine.is_main and self.step > first:
            self.save()
        return self.step

    def save(self) -> Path:
        """Write a checkpoint of the present step."""
        return save_checkpoint(
            self.run, self.step, self.engine.bare_model, self.ema, self.engine.optimizer, self.config.keep
        )

    def averaged(self) -> FantasyTalkingTransformer3DModel:
        """A copy of the model with the averaged weights, for validation and release."""
        model = FantasyTalkingTransformer3DModel(**self.config.model)
        model.load_state_dict(self.ema)
        return model.eval().to(self.engine.device)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        values: list[Tensor] = list(self.engine.bare_model.state_dict().values())
        torch._foreach_lerp_(list(self.ema.values()), values, 1 - decay)

    def _log(self, stage: str, means: Tensor, started: float, first: int, end: int) -> None:
        rate = (self.step - first) / (time.monotonic() - started)
        total, lips, rest, norm = (round(float(v), 4) for v in means)
        record = {"step": self.step, "stage": stage, "loss": total, "lips": lips, "rest": rest, "norm": norm}
        record |= {"steps_per_second": round(rate, 3), "minutes_left": round((end - self.step) / rate / 60, 1)}
        self.run.log(record)
        print(record, flush=True)

    def _validate(self) -> None:
        assert self.validate is not None
        figures = {k: round(float(v), 4) for k, v in self.validate(self.averaged()).items()}
        self.run.log({"step": self.step, "validation": figures})
        print({"step": self.step, "validation": figures}, flush=True)
