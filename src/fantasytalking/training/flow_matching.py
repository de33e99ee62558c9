"""Training objective of the transformer: flow matching as in Wan, with the paper's lip-tracing mask, in two stages.

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
    """Noised batch with its target velocity.

    Attributes:
        noisy: Noised latents x_s [B, C, f, h, w].
        velocity: Target velocity e - x_0, same shape.
        sigma: Noise levels s [B], 0..1; the transformer's timestep is 1000 s.
    """

    noisy: Tensor
    velocity: Tensor
    sigma: Tensor

    def to(self, device: torch.device) -> FlowTarget:
        """Copy of the target on a device."""
        return FlowTarget(self.noisy.to(device), self.velocity.to(device), self.sigma.to(device))


def target_of(latents: Tensor, noise: Tensor, sigma: Tensor) -> FlowTarget:
    """Noise clean latents [B, C, f, h, w] to noise levels [B] and compute the target velocity."""
    return FlowTarget(noised(latents, noise, sigma), velocity_target(latents, noise), sigma)


@dataclass(frozen=True)
class FlowBatch:
    """Batch for training the transformer.

    Attributes:
        samples: Collated samples, after condition dropout.
        draws: Random draws of these samples, on the CPU.
        target: Noised latents and target velocity.
    """

    samples: Batch
    draws: StepDraws
    target: FlowTarget

    def to(self, device: torch.device) -> FlowBatch:
        """Copy of the batch on a device; the draws stay on the CPU."""
        return FlowBatch(self.samples.to(device), self.draws, self.target.to(device))


def flow_loss(prediction: Tensor, target: FlowTarget, mask: Tensor, stage: Stage, p: Tensor) -> Losses:
    """Squared error of the velocity; in stage 2 masked to the lips when p > eta, p ~ U(0, 1) per sample (paper, section 3.1).

    The first latent frame counts as well, although it is known from the portrait: without a loss there, sampling leaves it noisy, and
    the other frames attend to it.

    Args:
        prediction: Predicted velocity v [B, C, f, h, w].
        target: Target from `target_of`.
        mask: Lip mask [B, 1, f, h, w], 0..1.
        stage: Stage that sets `eta` and `rest_weight`.
        p: Draws [B], 0..1.

    Returns:
        The loss, with the parts `lips`, the mean over the mask, and `rest`, the mean outside it.
    """
    error = (prediction.float() - target.velocity.float()).square()
    mask = mask.float()
    lips, rest, plain = masked_mean(error, mask), masked_mean(error, 1 - mask), error.mean((1, 2, 3, 4))
    total = torch.where(p.to(error.device) > stage.eta, lips + stage.rest_weight * rest, plain)
    return Losses(total, {"lips": lips, "rest": rest}, target.sigma)


def collate_rows(source: SampleSource, config: TrainConfig, step: int, draws: StepDraws) -> Batch:
    """Draw and collate the rows of `draws` of the global batch of a step, each sample with its own generator."""
    keys, stage = source.plan(step), STAGES[config.at(step)[0].stage]
    samples = [source.sample(keys[i], sample_rng(config.seed, step, i)) for i in draws.rows]
    return collate(samples, stage.audio, config.identity_scale, draws.kept)


class TransformerWork:
    """Counts the tokens and operations of a transformer by formula, from its sizes at the start of a run."""

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
    """Objective of the transformer: velocity at random noise levels, stage after stage (see `trainer.stages`).

    Args:
        config: Configuration of the run.
    """

    parts: tuple[str, ...] = ("lips", "rest")
    counts_operations = True

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.method: Mapping[str, Any] = {}

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Read the sizes of the model."""
        self._work = TransformerWork(engine, average)

    def draws(self, step: int, rows: Sequence[int], count: int) -> StepDraws:
        """Draw noise levels and condition dropout for some rows of a global batch of `count` samples."""
        return StepDraws.draw(self.config.seed, step, count, self.config.shift, self.config.dropout, rows)

    def prepare(self, source: SampleSource, step: int, rows: Sequence[int]) -> FlowBatch:
        """Collate some rows of the global batch of a step and add noise."""
        draws = self.draws(step, rows, len(source.plan(step)))
        samples = collate_rows(source, self.config, step, draws)
        latents = samples.latents.float()
        return FlowBatch(samples, draws, target_of(latents, draws.noise(latents.shape[1:]), draws.sigma))

    def losses(self, model: nn.Module, batch: FlowBatch, step: int) -> Losses:
        """Predict the velocity and compare it with the target."""
        samples, target = batch.samples, batch.target
        inputs = torch.cat([target.noisy, samples.condition.float()], 1)
        output = model(inputs, 1000 * target.sigma, samples.conditions)
        stage = STAGES[self.config.at(step)[0].stage]
        losses = flow_loss(output.sample, target, samples.lip_mask, stage, batch.draws.lips)
        return self.extended(losses, output.sample, batch)

    def extended(self, losses: Losses, prediction: Tensor, batch: FlowBatch) -> Losses:
        """Hook for terms that a kind of latents adds to the loss of each sample; none here.

        Args:
            losses: The loss so far.
            prediction: Predicted velocity [B, C, f, h, w].
            batch: The batch.
        """
        return losses

    def workload(self, batch: FlowBatch) -> Workload:
        """Tokens and operations of one sample."""
        return self._work(batch.samples.latents, batch.samples.conditions)
