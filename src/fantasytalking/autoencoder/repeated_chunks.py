"""Encode a video whose end never changes without computing the same numbers again and again.

Wan's causal encoder reads a video in chunks of four frames; each causal convolution keeps the last frames of the chunk before. In the video
that conditions the model, the portrait followed by black frames, every chunk after the first is the same, so layer after layer comes to a
point from which on what it receives and what it keeps no longer change. From there on its result is the one of the chunk before. At the
released sizes the portrait reaches 10 frames beyond itself in the first level, 20 in the second, 36 in the third and 112 behind the last
layer, which is more than the 81 of a clip: the deep, cheap layers run on every chunk, the shallow ones, which cost most, on the first few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

__all__ = ["reuse_repeated_chunks"]


@contextlib.contextmanager
def reuse_repeated_chunks(vae: AutoencoderKLWan) -> Iterator[None]:
    """Within the block, a layer of the encoder whose input and memory are those of the chunk before returns its result of then.

    The latents are the same, bit for bit. Layers that diffusers' group offloading moves are left alone, as it expects every layer to run.
    """
    layers: list[nn.Module] = [*vae.encoder.down_blocks, vae.encoder.mid_block]
    offloaded = any(hasattr(module, "_diffusers_hook") for module in vae.modules())
    before = [] if offloaded else [(layer, layer.__dict__.get("forward")) for layer in layers]
    for layer, _ in before:
        layer.forward = _Remembering(layer.forward)
    try:
        yield
    finally:
        for layer, forward in before:
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


class _Remembering:
    """The forward function of a layer; it remembers a result once the layer's memory has stopped changing."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        self.forward = forward
        self.given: Tensor | None = None
        self.result: Tensor | None = None
        self.kept: list[Tensor] = []

    def __call__(self, x: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> Tensor:
        """Run the layer on a chunk [B, C, t, H, W].

        Args:
            x: The chunk.
            feat_cache: Frames that each causal convolution of the encoder keeps, replaced in place.
            feat_idx: Position of this layer's first convolution in it, moved on to the next layer's.
        """
        first = feat_idx[0]
        own = slice(first, first + len(self.kept))
        unchanged = all(now is then for now, then in zip(feat_cache[own], self.kept, strict=True))
        if self.result is not None and unchanged and _same(x, self.given):
            feat_idx[0] = own.stop
            return self.result
        before = list(feat_cache)
        result = self.forward(x, feat_cache=feat_cache, feat_idx=feat_idx)
        own = slice(first, feat_idx[0])
        self.kept = feat_cache[own]
        settled = all(_same(now, then) for now, then in zip(self.kept, before[own], strict=True))
        self.given, self.result = (x, result) if settled else (None, None)
        return result


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return False
    return one is other or (one.shape == other.shape and torch.equal(one, other))
