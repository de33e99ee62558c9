"""Models of random weights for `speed.py`: the released layout at its own width, at a tenth of it, and tiny.

All encoders, token counts (512 of text, 257 of the image) and strides are the released model's; no file is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from fantasytalking.checkpoints.fill_model import build_empty, final_dtype
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel


@dataclass(frozen=True)
class Layout:
    """Sizes of the parts of a model of the released layout; the defaults are the released ones.

    Attributes:
        heads: Heads of the transformer, 128 wide each unless `head_dim` says otherwise.
        layers: Its blocks.
        head_dim: Width of a head.
        text: Changes to umT5's configuration.
        image: Changes to CLIP's.
        audio: Changes to wav2vec2's.
        vae: Changes to the VAE's.
    """

    heads: int = 40
    layers: int = 40
    head_dim: int = 128
    text: dict[str, Any] = field(default_factory=dict)
    image: dict[str, Any] = field(default_factory=dict)
    audio: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)


_SMALL_VAE = {"base_dim": 3, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_TINY_SPEECH = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
}
LAYOUTS = {
    "14b": Layout(),
    "wide": Layout(
        heads=4,
        layers=4,
        text={"vocab_size": 8, "d_model": 256, "d_kv": 32, "d_ff": 256, "num_layers": 1, "num_heads": 8},
        image={"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
        audio=_TINY_SPEECH,
        vae=_SMALL_VAE,
    ),
    "tiny": Layout(
        heads=2,
        layers=2,
        head_dim=12,
        text={"vocab_size": 8, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        image={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        audio={**_TINY_SPEECH, "hidden_size": 16, "intermediate_size": 16, "conv_dim": (8,) * 7},
        vae=_SMALL_VAE,
    ),
}
_UMT5 = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
_CLIP = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def random_model(
    name: str, device: torch.device, dtype: torch.dtype, waiting: torch.device | None = None, seed: int = 0
) -> FantasyTalkingPipeline:
    """A pipeline of random weights, made on a device.

    Args:
        name: Key of `LAYOUTS`.
        device: Where the weights are made.
        dtype: Type of transformer and text encoder; the others are float32, as loaded from a folder.
        waiting: Where they are put, tensor by tensor; None: they stay.
        seed: Seed of the weights.
    """
    target = waiting or device
    layout, width = LAYOUTS[name], LAYOUTS[name].heads * LAYOUTS[name].head_dim
    text = UMT5Config(**{**_UMT5, **layout.text})
    image = CLIPVisionConfig(**{**_CLIP, **layout.image})
    audio = Wav2Vec2Config(**layout.audio)
    torch.manual_seed(seed)

    def transformer() -> FantasyTalkingTransformer3DModel:
        return FantasyTalkingTransformer3DModel(
            num_attention_heads=layout.heads,
            attention_head_dim=layout.head_dim,
            num_layers=layout.layers,
            ffn_dim=2 * round(1.35 * width),
            text_dim=text.d_model,
            image_dim=image.hidden_size,
            added_kv_proj_dim=width,
            audio_feature_dim=audio.hidden_size,
            audio_dim=2 * width // 5,
        )

    return FantasyTalkingPipeline(
        transformer=_filled(transformer, device, dtype, target),
        vae=_made(lambda: AutoencoderKLWan(**layout.vae), device, target),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder=_filled(lambda: UMT5EncoderModel(text), device, dtype, target),
        tokenizer=_tokenizer(),
        image_encoder=_made(lambda: CLIPVisionModel(image), device, target),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}),
        audio_encoder=_made(lambda: Wav2Vec2Model(audio), device, target),
        audio_processor=Wav2Vec2FeatureExtractor(),
    )


Network = TypeVar("Network", bound=nn.Module)


def _made(build: Callable[[], Network], device: torch.device, target: torch.device) -> Network:
    """A small network with the weights that its class begins with, in float32."""
    with torch.device(device):
        network = build()
    return network.to(target).eval().requires_grad_(False)


@torch.no_grad()
def _filled(build: Callable[[], Network], device: torch.device, dtype: torch.dtype, target: torch.device) -> Network:
    """A large network, filled tensor by tensor in its final type, so that nothing is held twice."""
    network = build_empty(build)
    for name, parameter in network.named_parameters():
        owner, _, short = name.rpartition(".")
        # Some norms and embeddings stay in float32, as when they are loaded.
        values = torch.empty(parameter.shape, device=device, dtype=final_dtype(network, name, dtype, dtype))
        fill(values, name)
        setattr(network.get_submodule(owner), short, nn.Parameter(values.to(target), requires_grad=False))
    if hasattr(network, "tie_weights"):
        network.tie_weights()
    return network.to(target)


def fill(values: torch.Tensor, name: str) -> None:
    """Fill a tensor as if it had been trained: products keep the size of numbers, norms scale by 1, and blocks add something."""
    if name.endswith("scale_shift_table"):
        values.normal_(std=0.3)
    elif values.dim() > 1:
        values.normal_(std=(values.numel() / values.shape[0]) ** -0.5)
    else:
        values.fill_(0.0 if name.endswith("bias") else 1.0)


def _tokenizer() -> T5Tokenizer:
    """A tokenizer of a few words, as umT5's own would have to be downloaded; the prompt is padded to 512 tokens with either."""
    words = ("<pad>", "</s>", "<unk>", "▁a", "▁person", "▁speaks")
    return T5Tokenizer(vocab=[(word, -float(number)) for number, word in enumerate(words)], extra_ids=0)


def write_random_lora(path: Path, transformer: FantasyTalkingTransformer3DModel, seed: int = 0) -> None:
    """Write a LoRA of random weights for the attention and feed-forward layers of all blocks, as few-step LoRAs have.

    Its rank is 32 at the released width, and less in proportion at another.
    """
    generator, tensors = torch.Generator().manual_seed(seed), {}
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    rank = max(1, -(-32 * width // 5120))
    for name, layer in transformer.get_submodule("blocks").named_modules():
        if not isinstance(layer, nn.Linear) or name.endswith("_proj"):
            continue
        for half, shape in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
            values = torch.randn(shape, generator=generator) * (1e-3 if half == "B" else shape[1] ** -0.5)
            tensors[f"transformer.blocks.{name}.lora_{half}.weight"] = values.to(torch.bfloat16)
    save_file(tensors, path)
