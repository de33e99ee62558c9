"""What follows from the conditions alone and need not be computed again on each step of a sampling.

Embedded text and portrait, projected speech, identity tokens, the windows, and the keys and values that each block makes of them. They are
computed where they are needed first, inside the blocks, so that hooks which bring weights to a device or cast them are at work as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.transformer.attention import CrossContext, Kept, keeps_windows, window_tokens

__all__ = ["Constants", "constant_bytes", "for_blocks", "keys_values_bytes"]


@dataclass(eq=False)
class Constants:
    """What a model has computed from one `Conditions`, for calls with the same ones; empty before the first call.

    Nothing in it follows a change of weights: make a new one after loading, switching or weighing a LoRA.

    Attributes:
        contexts: what each block attends to, and its keys and values.
        motion: [B, d] that the motion intensities add to the timestep embedding, or None.
    """

    contexts: Sequence[CrossContext] = ()
    motion: Tensor | None = None


def for_blocks(context: CrossContext, blocks: Iterable[nn.Module]) -> list[CrossContext]:
    """The context for each block, with a place of its own for its keys and values.

    cache-dit replaces the blocks by a single module, which hands what it gets to all blocks: there nothing may be kept.
    """
    inner = (getattr(block, "_orig_mod", block) for block in blocks)  # torch.compile wraps
    return [
        dataclasses.replace(context, kept=Kept()) if isinstance(block, WanTransformerBlock) else context
        for block in inner
    ]


def constant_bytes(config: Any, conditions: Conditions, element_size: int) -> int:
    """Memory that `Constants` take, in bytes, apart from embeddings that are small beside keys and values.

    For the released model, 40 blocks of width 5120 in bfloat16, a pass with 512 text and 257 image tokens takes 630 MB, and with 81 frames
    of speech 145 MB more.

    Args:
        config: Configuration of the transformer.
        conditions: of all passes.
        element_size: Bytes of a number.
    """
    tokens = conditions.text.shape[1] + (0 if conditions.image is None else conditions.image.shape[1])
    width, heard = config.num_attention_heads * config.attention_head_dim, 0
    voices = () if conditions.audio is None else conditions.audio.voices
    if all(keeps_windows(voice, width) for voice in voices):
        heard = sum(window_tokens(voice) or 0 for voice in voices)
    else:
        tokens += sum(voice.features.shape[1] + 1 for voice in voices)
    if conditions.identity is not None:
        tokens += config.identity_tokens
    return keys_values_bytes(config.num_layers, width, tokens * conditions.batch_size + heard, element_size)


def keys_values_bytes(layers: int, width: int, tokens: int, element_size: int) -> int:
    """Bytes of the keys and values that all blocks make of some tokens.

    Args:
        layers: Number of blocks.
        width: Their width.
        tokens: Tokens of all passes and conditions.
        element_size: Bytes of a number.
    """
    return 2 * layers * width * tokens * element_size
