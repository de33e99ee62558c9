"""Flow matching as Wan uses it, with the paper's lip-tracing mask.

x_s = (1 - s) x_0 + s e,   v* = e - x_0,   L = |v - v*|^2,   s in (0, 1], e ~ N(0, 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fantasytalking.training.trainer.stages import Stage


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
        """On a device."""
        return FlowTarget(self.noisy.to(device), self.velocity.to(device), self.sigma.to(device))


def sample_sigmas(batch: int, shift: float, generator: torch.Generator | None = None) -> Tensor:
    """Noise levels [B] in (0, 1): uniform, one from each of B equal strata (less variance), then shifted as in inference.

    s = shift u / (1 + (shift - 1) u)
    """
    u = (torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)) / batch
    return shift * u / (1 + (shift - 1) * u)


def make_target(latents: Tensor, shift: float, generator: torch.Generator | None = None) -> FlowTarget:
    """Draw noise and noise levels for clean latents [B, C, f, h, w]."""
    sigma = sample_sigmas(len(latents), shift, generator).to(latents)
    return target_of(latents, torch.randn(latents.shape, generator=generator).to(latents), sigma)


def target_of(latents: Tensor, noise: Tensor, sigma: Tensor) -> FlowTarget:
    """The target of given noise [B, C, f, h, w] and noise levels [B]."""
    s = sigma.view(-1, 1, 1, 1, 1)
    return FlowTarget((1 - s) * latents + s * noise, noise - latents, sigma)


@dataclass(frozen=True)
class Losses:
    """Loss of a batch, kept per sample so that loss by noise level costs nothing.

    Attributes:
        total: [B], what is minimised.
        lips: [B], mean over the lip mask.
        rest: [B], mean outside it.
    """

    total: Tensor
    lips: Tensor
    rest: Tensor


def flow_loss(
    prediction: Tensor,
    target: FlowTarget,
    mask: Tensor,
    stage: Stage,
    generator: torch.Generator | None = None,
    p: Tensor | None = None,
) -> Losses:
    """Squared error of the velocity; in stage 2 masked to the lips when p > eta, p ~ U(0, 1) per sample (paper, section 3.1).

    The first latent frame counts as well, although the portrait gives it away: what it is not taught there, sampling leaves
    as noise, and the other frames attend to it.

    Args:
        prediction: v [B, C, f, h, w].
        target: from `make_target`.
        mask: lip mask [B, 1, f, h, w], 0..1.
        stage: whose `eta` and `rest_weight` apply.
        generator: for p, where it is not given.
        p: [B], 0..1.
    """
    error = (prediction.float() - target.velocity.float()).square()
    mask = mask.float()
    axes = (1, 2, 3, 4)

    def mean_under(weight: Tensor) -> Tensor:
        return (error * weight).sum(axes) / (weight.sum(axes) * error.shape[1]).clamp_min(1e-6)

    lips, rest, plain = mean_under(mask), mean_under(1 - mask), error.mean(axes)
    if p is None:
        p = torch.rand(len(error), generator=generator)
    total = torch.where(p.to(error.device) > stage.eta, lips + stage.rest_weight * rest, plain)
    return Losses(total, lips, rest)
