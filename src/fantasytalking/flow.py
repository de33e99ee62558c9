"""The formulas of flow matching, the only place for them: shift of the noise levels, noising, target, masked mean.

x_s = (1 - s) x_0 + s e,   v* = e - x_0,   s = shift u / (1 + (shift - 1) u),   s and u in [0, 1], e ~ N(0, 1)

x_0 is clean, e is noise, u is the noise level before the shift. The transformer's timestep is 1000 s.

Source: Lipman et al. 2023 (arXiv 2210.02747); the shift is that of Esser et al. 2024 (arXiv 2403.03206), as Wan2.1 uses it.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["TIMESTEPS", "masked_mean", "noised", "shifted", "unshifted", "velocity_target"]

TIMESTEPS = 1000
"""The transformer's timestep at noise level 1; at level s it is 1000 s."""


def shifted(u: Tensor, shift: float) -> Tensor:
    """Noise levels s = shift u / (1 + (shift - 1) u) of evenly spaced levels u in [0, 1]: same shape and type."""
    return shift * u / (1 + (shift - 1) * u)


def unshifted(sigma: Tensor, shift: float) -> Tensor:
    """Inverse of `shifted`, u = s / (shift - (shift - 1) s): same shape and type."""
    return sigma / (shift - (shift - 1) * sigma)


def noised(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Latents at a noise level, x_s = (1 - s) x_0 + s e.

    Args:
        latents: x_0 [B, C, f, h, w].
        noise: e, of the same shape.
        sigma: s [B].
    """
    s = sigma.view(-1, 1, 1, 1, 1)
    return (1 - s) * latents + s * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """Velocity v* = e - x_0 for x_0 and e of one shape, which the network predicts at every noise level."""
    return noise - latents


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, C, f, h, w] over the elements under a mask [B, 1, f, h, w] in 0..1, by sample [B]; 0 where the mask is empty."""
    axes = (1, 2, 3, 4)
    return (values * mask).sum(axes) / (mask.sum(axes) * values.shape[1]).clamp_min(1e-6)
