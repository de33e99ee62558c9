"""Decoding by Wan's VAE one latent frame after the other, so that only the frames of one are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import AutoencoderKLWan
from torch import Tensor

__all__ = ["decode_in_turn"]


def decode_in_turn(vae: AutoencoderKLWan, latents: Tensor) -> Iterator[Tensor]:
    """Decode as `AutoencoderKLWan.decode` does without tiles, whose causal convolutions keep what they need of the frames before.

    The VAE may encode meanwhile: what the convolutions keep is held here.

    Args:
        vae: The VAE, of pixels without patches.
        latents: [B, C, f, h, w] on its device in its type, in its own units.

    Yields:
        [B, 3, 1, H, W] for the first latent frame, [B, 3, 4, H, W] for each of the others, not clamped.
    """
    # What `apply_forward_hook` does for `decode`: offload hooks bring the weights.
    hook: Any = getattr(vae, "_hf_hook", None)
    if hook is not None and hasattr(hook, "pre_forward"):
        hook.pre_forward(vae)
    kept: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    for number, one in enumerate(latents.split(1, 2)):
        first = {"first_chunk": True} if number == 0 else {}
        yield vae.decoder(vae.post_quant_conv(one), feat_cache=kept, feat_idx=[0], **first)
