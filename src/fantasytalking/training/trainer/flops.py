"""Floating point operations and memory of training the transformer, from its configuration and numbers of tokens.

One product of an [a, b] with a [b, c] matrix is 2 a b c operations. Norms, activations, softmax and the rotary embedding are left out:
together they are less than one per cent at the released size. For a sample with N video tokens in f latent frames, width d, feed-forward
width e, L blocks; T text, I image, S speech and J identity tokens; W speech tokens in a latent frame's window:

    block        = 4 * 2 N d^2               queries, keys, values and output of self-attention
                 + 2 * 2 N^2 d               its two products
                 + 2 * 2 N d^2               query and output of cross-attention
                 + 2 * 2 (T + I) d^2         keys and values of text and image
                 + 2 * 2 (S a + J b) d       of speech (width a) and identity (width b)
                 + 2 * 2 N (T + I + J + K) d the products of cross-attention; K is S at clip level, W at frame level
                 + 2 * 2 N d e               feed-forward
    forward      = L block + layers outside the blocks (embeddings, projector, Q-Former, output)

Backward: a product needs the gradient of its input and, if the weight is trained, of the weight; each costs as much as the product itself.
With a frozen backbone nearly all weights need no gradient, so backward costs about one forward instead of two (attention products have no
weights: both factors get a gradient, at twice the cost of forward). Activation checkpointing repeats the forward pass of the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fantasytalking.conditioning.audio_windows import WINDOW_MARGIN, window_ranges
from fantasytalking.conditioning.identity_qformer import FACE_TOKENS
from fantasytalking.geometry import PATCH, Strides

__all__ = ["Flops", "SampleFlops", "Tokens", "latent_tokens", "sample_flops", "tokens_of", "training_flops"]

_MOTION_WIDTH = 256  # inside the motion network


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens of one sample.

    Attributes:
        video: Video tokens N.
        frames: Latent frames f.
        text: Text tokens T; 0 without text.
        image: Image tokens I; 0 without an image.
        speech: Speech tokens S; 0 without speech.
        window: Speech tokens W to which the window of a latent frame is padded.
    """

    video: int
    frames: int
    text: int = 0
    image: int = 0
    speech: int = 0
    window: int = 0


def tokens_of(
    num_frames: int,
    height: int,
    width: int,
    speech: int,
    text: int = 512,
    image: int = 257,
    patch: tuple[int, ...] = PATCH,
) -> Tokens:
    """Count the tokens of a video of F frames of H x W pixels, encoded by Wan's autoencoder, with `speech` speech tokens."""
    strides = Strides()
    frames, (rows, columns) = strides.latent_frames(num_frames), strides.latent_size(height, width)
    return Tokens(_video(frames, rows, columns, patch), frames, text, image, speech, _window(speech, num_frames))


def latent_tokens(size: tuple[int, int, int], speech: int, text: int, image: int, patch: tuple[int, ...]) -> Tokens:
    """Count the tokens of latents of size (f, h, w)."""
    video, window = _video(*size, patch), _window(speech, Strides().num_frames(size[0]))
    return Tokens(video, size[0] // patch[0], text, image, speech, window)


def _video(frames: int, rows: int, columns: int, patch: tuple[int, ...]) -> int:
    return int(np.prod([side // part for side, part in zip((frames, rows, columns), patch, strict=True)]))


def _window(speech: int, num_frames: int) -> int:
    if not speech:
        return 0
    ranges = window_ranges(speech, num_frames)
    return int((ranges[:, 1] - ranges[:, 0]).max()) + 1 + 2 * WINDOW_MARGIN


@dataclass(frozen=True)
class Flops:
    """Operations of one sample.

    Attributes:
        forward: Operations of one forward pass.
        inputs: Operations of the backward pass for gradients of activations.
        weights: Operations of the backward pass for gradients of trained weights.
        again: Operations of the forward pass that activation checkpointing repeats; not model work, so MFU excludes it.
    """

    forward: float
    inputs: float
    weights: float
    again: float

    @property
    def model(self) -> float:
        """Operations of forward and backward without any repetition; MFU is this divided by time and peak."""
        return self.forward + self.inputs + self.weights

    @property
    def hardware(self) -> float:
        """Operations actually executed, including repeated ones."""
        return self.model + self.again


Trains = Literal["all", "adapter", "lora"]


def training_flops(
    config: Mapping[str, Any],
    tokens: Tokens,
    level: Literal["clip", "frame"] = "frame",
    trains: Trains = "adapter",
    checkpointing: bool = True,
    lora_rank: int = 0,
) -> Flops:
    """Count the operations of training on one sample.

    Args:
        config: Configuration of `FantasyTalkingTransformer3DModel`.
        tokens: Tokens of the sample.
        level: How video attends to speech, see `fantasytalking.training.trainer.stages`.
        trains: "all" weights, only the "adapter", or the adapter and LoRA ("lora").
        checkpointing: Whether the forward pass of the blocks is repeated in the backward pass.
        lora_rank: Rank r of LoRA.
    """
    parts = _parts(config, tokens, level)
    layers = config["num_layers"]
    block = layers * sum(parts[name] for name in ("backbone", "attention", "side", "adapter"))
    outside = parts["outside"] + parts["outside_adapter"]
    lora = layers * _lora(config, tokens, lora_rank) if trains == "lora" else 0.0
    forward = block + outside + lora
    if trains == "all":
        # The input latents, text, image and speech need no gradient.
        through = parts["backbone"] + 2 * parts["attention"] + parts["side"] + parts["adapter"]
        weights = layers * (parts["backbone"] + parts["side"] + parts["adapter"]) + outside
        inputs = layers * through + parts["outside_back"] + parts["outside_whole"]
        return Flops(forward, inputs, weights, block if checkpointing else 0.0)
    # Gradients flow through the blocks to the adapter and no further; frozen keys and values of text and image need none.
    attention = parts["attention_back"] if trains == "adapter" else 2 * parts["attention"]
    inputs = layers * (parts["backbone"] + attention + parts["adapter"]) + parts["outside_back"] + lora
    weights = layers * parts["adapter"] + parts["outside_adapter"] + lora
    return Flops(forward, inputs, weights, block + lora if checkpointing else 0.0)


@dataclass(frozen=True)
class SampleFlops:
    """Operations of one sample, for the log of a run.

    Attributes:
        forward: Operations of one forward pass.
        whole: Operations of forward and backward when all weights are trained.
        adapter: Operations of forward and backward when only the adapter is trained.
    """

    forward: float
    whole: float
    adapter: float

    def training(self, trained: float) -> float:
        """Operations of forward and backward without repetition, where `trained` is the share of weights that are trained.

        Below 1 it is taken to be an adapter; the products of LoRA, a few per cent, are not counted.
        """
        return self.whole if trained >= 1 else self.adapter


def sample_flops(
    config: Mapping[str, Any], size: tuple[int, int, int], text: int, speech: int, image: int, clip: bool = False
) -> SampleFlops:
    """Count the operations for one sample of latents (f, h, w) with the given text, speech and image tokens, at clip or frame level."""
    patch = tuple(config.get("patch_size", PATCH))
    tokens = latent_tokens(size, speech, text, image, patch)
    level: Literal["clip", "frame"] = "clip" if clip else "frame"
    whole = training_flops(config, tokens, level, "all", checkpointing=False)
    adapter = training_flops(config, tokens, level, "adapter", checkpointing=False)
    return SampleFlops(whole.forward, whole.model, adapter.model)


def _parts(config: Mapping[str, Any], t: Tokens, level: str) -> dict[str, float]:
    """Operations by part: those of one block, and those outside the blocks."""
    d, e = config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"]
    n, a, b = t.video, config.get("audio_dim") or 0, config.get("identity_dim") or 0
    image, width = (t.image if config.get("image_dim") else 0), config.get("image_dim") or 0
    speech, faces = (t.speech if a else 0), (config.get("identity_tokens", 0) if b else 0)
    places = (config.get("audio_positions") or 0) if level == "frame" else 0
    heard = speech if level == "clip" else (t.window if speech else 0)
    own = 4 * n * n * d
    crossed = 4.0 * n * (t.text + image + heard + faces) * d
    # Text and image keys do not depend on any trained weight: of their two products only the gradient of the query is needed.
    side_crossed = 4.0 * n * (t.text + image) * d
    patch = int(np.prod(config.get("patch_size", PATCH)))
    return {
        "backbone": 2.0 * n * d * (4 * d + 2 * d + 2 * e),
        "side": 4.0 * (t.text + image) * d * d,
        "adapter": 4.0 * ((speech + places) * a + faces * b) * d,
        "attention": float(own + crossed),
        # softmax(q k) v: gradients of v, of the scores, of q and of k, a product each; k and v of text and image are left out
        "attention_back": 2.0 * (own + crossed) - side_crossed,
        "outside": _embeddings(config, t, image, d, patch),
        "outside_back": 2.0 * n * d * patch * config["out_channels"]
        + 12.0 * d * d
        + _identity(config)
        + _motion(config, d),
        "outside_whole": 2.0 * ((t.text + 1) * d * d + image * width * d),
        "outside_adapter": 2.0 * speech * config.get("audio_feature_dim", 0) * a
        + _identity(config)
        + _motion(config, d),
    }


def _embeddings(config: Mapping[str, Any], t: Tokens, image: int, d: int, patch: int) -> float:
    """Operations of Wan's own layers outside the blocks."""
    total = 2.0 * t.video * d * patch * (config["in_channels"] + config["out_channels"])
    total += 2.0 * t.text * (config["text_dim"] * d + d * d)
    total += 2.0 * (config["freq_dim"] * d + d * d + 6 * d * d)
    width = config.get("image_dim") or 0
    result: float = total + 2.0 * image * (width * width + width * d)
    return result


def _identity(config: Mapping[str, Any]) -> float:
    b = config.get("identity_dim")
    if not b:
        return 0.0
    queries, layers = config["identity_tokens"], config["identity_layers"]
    attention = 2 * (4 * queries * b * b + 2 * queries * queries * b)
    crossed = 2 * (2 * queries * b * b + 2 * FACE_TOKENS * b * b + 2 * queries * FACE_TOKENS * b)
    result: float = 2.0 * FACE_TOKENS * config["identity_feature_dim"] * b + layers * (
        attention + crossed + 2 * 8 * queries * b * b
    )
    return result


def _motion(config: Mapping[str, Any], d: int) -> float:
    if not config.get("motion"):
        return 0.0
    w = _MOTION_WIDTH
    return 2.0 * (2 * (w + w * w) + 2 * 2 * 3 * w * w + w * d)


def _lora(config: Mapping[str, Any], t: Tokens, rank: int) -> float:
    """Operations of LoRA in one block: a product with [d, r] and one with [r, d] for each layer."""
    d, e, n = config["num_attention_heads"] * config["attention_head_dim"], config["ffn_dim"], t.video
    image = t.image if config.get("image_dim") else 0
    square = n * (4 + 2) + (t.text + image) * 2
    result: float = 2.0 * rank * (square * 2 * d + 2 * n * (d + e))
    return result
