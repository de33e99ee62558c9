"""What a sampling keeps from step to step besides the latents: keys and values of the conditions, and what step caches remember."""

from __future__ import annotations

from math import prod

from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import ModelSizes
from fantasytalking.conditioning.audio_windows import window_ranges, window_width
from fantasytalking.transformer.attention import WINDOWS_KEPT
from fantasytalking.transformer.constants import keys_values_bytes

__all__ = ["TEXT_TOKENS", "UNBATCHED", "cache_bytes", "constant_tokens", "kept_bytes"]

TEXT_TOKENS, IMAGE_TOKENS = 512, 257
"""Tokens of umT5 and of CLIP as Wan uses them."""

UNBATCHED = ("first-block",)
"""Step caches under which passes never run as one batch, as they decide for each."""
_TOKENS_KEPT = {"none": 0, "first-block": 3, "magcache": 2, "sea": 3}
"""Step cache -> tensors as large as a pass's tokens that it holds while blocks compute: what the first block gives and changes and what the
others change; the first block's input and what all change; the same with two changes."""


def kept_bytes(sizes: ModelSizes, plan: MemoryPlan, clip: Clip) -> int:
    """Bytes that stay on the device over the steps."""
    tokens, itemsize = clip.passes * _seen_tokens(sizes), plan.torch_dtype.itemsize
    # Prompt and portrait, as the encoders give them and as the blocks take them.
    kept = cache_bytes(sizes, plan, clip) + 2 * tokens * sizes.width * itemsize
    if plan.reuse_conditions == "on":
        tokens, layers = constant_tokens(sizes, plan, clip), sizes.config["num_layers"]
        kept += keys_values_bytes(layers, sizes.width, tokens, itemsize)
    return kept


def _seen_tokens(sizes: ModelSizes) -> int:
    """Tokens of prompt and portrait of a pass."""
    text = TEXT_TOKENS if "text_encoder" in sizes.parts else 1
    return text + (IMAGE_TOKENS if "image_encoder" in sizes.parts else 0)


def constant_tokens(sizes: ModelSizes, plan: MemoryPlan, clip: Clip) -> int:
    """Tokens of all passes whose keys and values each block keeps; one pass hears the speech, a batch is padded to it."""
    config = sizes.config
    identity = config["identity_tokens"] if config.get("identity_dim") is not None else 0
    hearing = clip.passes if plan.batch_passes == "on" else 1
    heard = 0 if config.get("audio_dim") is None else hearing * (clip.audio_tokens + 1)
    if heard:
        ranges = window_ranges(clip.audio_tokens, clip.frames)
        windows = hearing * len(ranges) * window_width(ranges)
        heard = windows if windows * sizes.width <= WINDOWS_KEPT else heard
    return int(clip.passes * (_seen_tokens(sizes) + identity) + heard)


def cache_bytes(sizes: ModelSizes, plan: MemoryPlan, clip: Clip) -> int:
    """Bytes that the step cache holds for all passes of a step."""
    tokens, config = clip.passes * clip.tokens(sizes.canvas), sizes.config
    if plan.cache == "taylorseer":
        # What the last layer gives and how it changes, in float32.
        return int(2 * tokens * config["out_channels"] * prod(config["patch_size"]) * 4)
    # Pyramid attention broadcast holds what each attention layer has given.
    held = 2 * config["num_layers"] if plan.cache == "pab" else _TOKENS_KEPT[plan.cache]
    return int(held * tokens * sizes.width * plan.torch_dtype.itemsize)
