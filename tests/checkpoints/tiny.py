"""Tiny checkpoints in the layouts in which the real ones are published: real parts, random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from fantasytalking.checkpoints.key_tables import KeyTable
from fantasytalking.checkpoints.wan_layouts import (
    CLIP_ORIGINAL,
    CLIP_PREFIX,
    TRANSFORMER_ORIGINAL,
    UMT5_ORIGINAL,
    VAE_ORIGINAL,
)
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

# Tensors this small only make threads wait for each other.
torch.set_num_threads(1)

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 3,
    "image_dim": 20,
    "added_kv_proj_dim": 24,
}
AUDIO = {"audio_feature_dim": 32, "audio_dim": 14}
EXTENDED = {"identity_feature_dim": 10, "identity_dim": 8, "identity_tokens": 3, "identity_layers": 1, "motion": True}
CLIP_SIZES = {"num_attention_heads": 2}


def transformer(**config: object) -> FantasyTalkingTransformer3DModel:
    """A transformer with random weights everywhere, even where weights start at zero."""
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**{**TRANSFORMER, **config})
    for value in model.parameters():
        nn.init.normal_(value, std=0.2)
    return model.eval()


def vae() -> AutoencoderKLWan:
    """A VAE with all the layers of the real one, four channels wide."""
    torch.manual_seed(1)
    return AutoencoderKLWan(base_dim=4, z_dim=16).eval()


def text_encoder() -> UMT5EncoderModel:
    """A umT5 encoder of two layers."""
    torch.manual_seed(2)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu")).eval()


def image_encoder() -> CLIPVisionModel:
    """A CLIP vision model of two layers."""
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=20,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=112,
        hidden_act="gelu",
    )
    return CLIPVisionModel(config).eval()


def originals(model: nn.Module, table: KeyTable, prefix: str = "") -> dict[str, torch.Tensor]:
    """A model's weights in its original layout: renamed, and stacked where the original stacks them."""
    pieces: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in model.state_dict().items():
        piece = table.backward(prefix + key)
        if piece is not None:
            pieces.setdefault(piece.source, {})[piece.part] = value.reshape((1,) * piece.leading_ones + value.shape)
    return {key: torch.cat([parts[i] for i in sorted(parts)]).clone() for key, parts in pieces.items()}


def clip_prefix(model: nn.Module) -> str:
    """Prefix that the installed version of transformers drops from CLIP's names."""
    return "" if any(key.startswith(CLIP_PREFIX) for key in model.state_dict()) else CLIP_PREFIX


def write_original_wan(folder: Path) -> dict[str, nn.Module]:
    """Write a folder like the published Wan2.1-I2V-14B-720P, with a tokenizer, and return the models in it."""
    folder.mkdir(parents=True)
    models: dict[str, nn.Module] = {
        "transformer": transformer(audio_dim=None),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "image_encoder": image_encoder(),
    }
    write_shards(folder, originals(models["transformer"], TRANSFORMER_ORIGINAL))
    config = {"_class_name": "WanModel", "num_heads": 2, "dim": 24, "eps": 1e-6, "model_type": "i2v"}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(originals(models["vae"], VAE_ORIGINAL), folder / "Wan2.1_VAE.pth")
    torch.save(originals(models["text_encoder"], UMT5_ORIGINAL), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    clip = originals(models["image_encoder"], CLIP_ORIGINAL, clip_prefix(models["image_encoder"]))
    clip |= {"visual.head": torch.zeros(20, 4), "textual.norm.weight": torch.zeros(4), "log_scale": torch.zeros(())}
    torch.save(clip, folder / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    write_tokenizer(folder / "google" / "umt5-xxl")
    return models


def write_shards(folder: Path, weights: dict[str, torch.Tensor], count: int = 3) -> list[Path]:
    """Write safetensors shards with an index, named as published."""
    names = [f"diffusion_pytorch_model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    keys = list(weights)
    index: dict[str, str] = {}
    for i, name in enumerate(names):
        part = keys[i::count]
        save_file({key: weights[key] for key in part}, folder / name)
        index |= dict.fromkeys(part, name)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    return [folder / name for name in names]


def write_tokenizer(folder: Path) -> None:
    """Write a T5 tokenizer with a few words."""
    words = ["<pad>", "</s>", "<unk>", "▁a", "▁person", "▁talks", "▁"]
    vocabulary = [(word, -float(i)) for i, word in enumerate(words)]
    T5TokenizerFast(vocab=vocabulary, extra_ids=0).save_pretrained(folder)


def write_speech_encoder(folder: Path) -> Wav2Vec2Model:
    """Write a folder with a tiny wav2vec2 model, and return the model."""
    torch.manual_seed(4)
    model = Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    ).eval()
    model.save_pretrained(folder)
    return model


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same names and values."""
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
