"""The objective of the transformer: flow matching as Wan uses it, with the paper's lip-tracing mask, in two stages.

x_s = (1 - s) x_0 + s e,   v* = e - x_0,   L = |v - v*|^2,   s in (0, 1], e ~ N(0, 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.data.samples import Batch, collate
from fantasytalking.flow import masked_mean, noised, velocity_target
from fantasytalking.training.trainer.config import TrainConfig
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.flops import sample_flops
from fantasytalking.training.trainer.objective import Losses, Workload
from fantasytalking.training.trainer.random_draws import StepDraws, sample_rng
from fantasytalking.training.trainer.sources import SampleSource
from fantasytalking.training.trainer.stages import STAGES, Stage

__all__ = ["FlowBatch", "FlowMatching", "FlowTarget", "collate_rows", "flow_loss", "target_of"]


@dataclass(frozen=True)
class FlowTarget:
    """A noised batch.

    Attributes:
        noisy: x_s [B, C, f, h, w].
        velocity: e - x_0, same shape.
        sigma: s [B], 0..1; the transformer's timestep is 1000 s.
    """

    noisy: Tensor
    velocity: Tensor
    sigma: Tensor

    def to(self, device: torch.device) -> FlowTarget:
        """The same on a device."""
        return FlowTarget(self.noisy.to(device), self.velocity.to(device), self.sigma.to(device))


def target_of(latents: Tensor, noise: Tensor, sigma: Tensor) -> FlowTarget:
    """The target of clean latents and noise [B, C, f, h, w] at noise levels [B]."""
    return FlowTarget(noised(latents, noise, sigma), velocity_target(latents, noise), sigma)


@dataclass(frozen=True)
class FlowBatch:
    """A batch of the transformer.

    Attributes:
        samples: collated, conditions dropped.
        draws: of these samples, on the CPU.
        target: noised latents and velocity.
    """

    samples: Batch
    draws: StepDraws
    target: FlowTarget

    def to(self, device: torch.device) -> FlowBatch:
        """The same on a device."""
        return FlowBatch(self.samples.to(device), self.draws, self.target.to(device))


def flow_loss(prediction: Tensor, target: FlowTarget, mask: Tensor, stage: Stage, p: Tensor) -> Losses:
    """Squared error of the velocity; in stage 2 masked to the lips when p > eta, p ~ U(0, 1) per sample (paper, section 3.1).

    The first latent frame counts as well, although the portrait gives it away: what it is not taught there, sampling leaves
    as noise, and the other frames attend to it.

    Args:
        prediction: v [B, C, f, h, w].
        target: from `target_of`.
        mask: lip mask [B, 1, f, h, w], 0..1.
        stage: whose `eta` and `rest_weight` apply.
        p: [B], 0..1.

    Returns:
        Parts `lips`, the mean over the mask, and `rest`, the mean outside it.
    """
    error = (prediction.float() - target.velocity.float()).square()
    mask = mask.float()
    lips, rest, plain = masked_mean(error, mask), masked_mean(error, 1 - mask), error.mean((1, 2, 3, 4))
    total = torch.where(p.to(error.device) > stage.eta, lips + stage.rest_weight * rest, plain)
    return Losses(total, {"lips": lips, "rest": rest}, target.sigma)


def collate_rows(source: SampleSource, config: TrainConfig, step: int, draws: StepDraws) -> Batch:
    """The drawn rows of the global batch of a step, each sample drawn by a generator of its own."""
    keys, stage = source.plan(step), STAGES[config.at(step)[0].stage]
    samples = [source.sample(keys[i], sample_rng(config.seed, step, i)) for i in draws.rows]
    return collate(samples, stage.audio, config.dropout, config.identity_scale, kept=draws.kept)


class TransformerWork:
    """Counts tokens and operations of a transformer by formula; takes its sizes when a run begins."""

    def __init__(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        self._sizes: dict[str, Any] = dict(engine.bare_model.config)  # type: ignore[arg-type]
        every = sum(p.numel() for p in engine.bare_model.parameters())
        self._trained = sum(v.numel() for v in average.values()) / every

    def __call__(self, latents: Tensor, conditions: Conditions) -> Workload:
        """Size of one sample of a batch of latents [B, C, f, h, w]."""
        frames, height, width = latents.shape[2:]
        text = conditions.text.shape[1]
        speech = 0 if conditions.audio is None else conditions.audio.features.shape[1]
        image = 0 if conditions.image is None else conditions.image.shape[1]
        clip_level = conditions.audio is not None and conditions.audio.ranges is None
        flops = sample_flops(self._sizes, (frames, height, width), text, speech, image, clip_level)
        tokens = frames * height * width / math.prod(self._sizes["patch_size"])
        return Workload(tokens, flops.training(self._trained))


class FlowMatching:
    """Objective of the transformer: velocity at drawn noise levels, stage after stage (see `trainer.stages`).

    Args:
        config: the run.
    """

    parts = ("lips", "rest")
    counts_operations = True

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.method: Mapping[str, Any] = {}

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Take the model's sizes."""
        self._work = TransformerWork(engine, average)

    def draws(self, step: int, rows: Sequence[int], count: int) -> StepDraws:
        """Noise levels and drops of some rows of a global batch of `count` samples."""
        return StepDraws.draw(self.config.seed, step, count, self.config.shift, self.config.dropout, rows)

    def prepare(self, source: SampleSource, step: int, rows: Sequence[int]) -> FlowBatch:
        """Collate and noise some rows of the global batch of a step."""
        draws = self.draws(step, rows, len(source.plan(step)))
        samples = collate_rows(source, self.config, step, draws)
        latents = samples.latents.float()
        return FlowBatch(samples, draws, target_of(latents, draws.noise(latents.shape[1:]), draws.sigma))

    def losses(self, model: nn.Module, batch: FlowBatch, step: int) -> Losses:
        """Predict the velocity and compare."""
        samples, target = batch.samples, batch.target
        inputs = torch.cat([target.noisy, samples.condition.float()], 1)
        output = model(inputs, 1000 * target.sigma, samples.conditions)
        stage = STAGES[self.config.at(step)[0].stage]
        return flow_loss(output.sample, target, samples.lip_mask, stage, batch.draws.lips)

    def workload(self, batch: FlowBatch) -> Workload:
        """Tokens and operations of a sample."""
        return self._work(batch.samples.latents, batch.samples.conditions)
