"""The released model without values: its shapes, on the meta device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from fantasytalking.acceleration.part_sizes import ModelSizes, sizes_of_modules
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

UMT5: dict[str, Any] = {"vocab_size": 256384, "d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
CLIP: dict[str, Any] = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "patch_size": 14}


def released_modules(**transformer: Any) -> dict[str, nn.Module]:
    """Component -> network of the released sizes, with other arguments of the transformer as given."""
    with torch.device("meta"):
        return {
            "transformer": FantasyTalkingTransformer3DModel(image_dim=1280, added_kv_proj_dim=5120, **transformer),
            "vae": AutoencoderKLWan(),
            "text_encoder": UMT5EncoderModel(UMT5Config(**UMT5)),
            "image_encoder": CLIPVisionModel(CLIPVisionConfig(num_attention_heads=16, **CLIP)),
            "audio_encoder": Wav2Vec2Model(Wav2Vec2Config()),
        }


@cache
def released_sizes() -> ModelSizes:
    """Sizes as of a folder that stores transformer and text encoder in bfloat16, and the others in float32."""
    modules = released_modules()
    for name in ("transformer", "text_encoder"):
        modules[name].to(torch.bfloat16)
    return sizes_of_modules(modules)
