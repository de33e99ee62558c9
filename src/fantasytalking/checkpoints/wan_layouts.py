"""Key tables and sizes of the parts of Wan2.1-I2V, as original files and in diffusers' naming.

The parts are the transformer, the VAE, the text encoder and the image encoder. The originals are published as
`diffusion_pytorch_model-0000N-of-0000M.safetensors` (transformer), `Wan2.1_VAE.pth`,
`models_t5_umt5-xxl-enc-bf16.pth` and `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`. Sizes are read from
the tensors' shapes, so a small model needs no configuration but its number of heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fantasytalking.checkpoints.key_tables import KeyTable, Rule
from fantasytalking.errors import CheckpointError

__all__ = [
    "CLIP_BARE_NAMES",
    "CLIP_FILE",
    "CLIP_NAMES",
    "CLIP_ORIGINAL",
    "CLIP_PREFIX",
    "HEAD_DIM",
    "TEXT_FILE",
    "TRANSFORMER_ORIGINAL",
    "UMT5_NAMES",
    "UMT5_ORIGINAL",
    "VAE_FILE",
    "VAE_ORIGINAL",
    "clip_config",
    "same_names",
    "transformer_config",
    "umt5_config",
    "vae_config",
]

VAE_FILE = "Wan2.1_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
HEAD_DIM = 128
"""Channels of one attention head in every published Wan transformer."""
CLIP_HEAD_DIM = 80

Shapes = Mapping[str, tuple[int, ...]]


def same_names(name: str, prefix: str = "") -> KeyTable:
    """Make the key table of a layout whose names are those of the model, after an optional prefix."""
    return KeyTable(name, (Rule(prefix + "{tail}", "{tail}"),))


def _attention(source: str, target: str) -> tuple[Rule, ...]:
    names = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
    return tuple(Rule(f"blocks.{{n}}.{source}.{a}.{{p}}", f"blocks.{{n}}.{target}.{b}.{{p}}") for a, b in names.items())


TRANSFORMER_ORIGINAL = KeyTable(
    "original Wan transformer",
    (
        Rule("patch_embedding.{p}", "patch_embedding.{p}"),
        Rule("time_embedding.0.{p}", "condition_embedder.time_embedder.linear_1.{p}"),
        Rule("time_embedding.2.{p}", "condition_embedder.time_embedder.linear_2.{p}"),
        Rule("time_projection.1.{p}", "condition_embedder.time_proj.{p}"),
        Rule("text_embedding.0.{p}", "condition_embedder.text_embedder.linear_1.{p}"),
        Rule("text_embedding.2.{p}", "condition_embedder.text_embedder.linear_2.{p}"),
        Rule("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
        Rule("img_emb.proj.0.{p}", "condition_embedder.image_embedder.norm1.{p}"),
        Rule("img_emb.proj.1.{p}", "condition_embedder.image_embedder.ff.net.0.proj.{p}"),
        Rule("img_emb.proj.3.{p}", "condition_embedder.image_embedder.ff.net.2.{p}"),
        Rule("img_emb.proj.4.{p}", "condition_embedder.image_embedder.norm2.{p}"),
        *_attention("self_attn", "attn1"),
        *_attention("cross_attn", "attn2"),
        Rule("blocks.{n}.cross_attn.k_img.{p}", "blocks.{n}.attn2.add_k_proj.{p}"),
        Rule("blocks.{n}.cross_attn.v_img.{p}", "blocks.{n}.attn2.add_v_proj.{p}"),
        Rule("blocks.{n}.cross_attn.norm_k_img.{p}", "blocks.{n}.attn2.norm_added_k.{p}"),
        # The original applies its norms in the order 1, 3, 2; diffusers numbers them in order of use. Only this one
        # has weights.
        Rule("blocks.{n}.norm3.{p}", "blocks.{n}.norm2.{p}"),
        Rule("blocks.{n}.ffn.0.{p}", "blocks.{n}.ffn.net.0.proj.{p}"),
        Rule("blocks.{n}.ffn.2.{p}", "blocks.{n}.ffn.net.2.{p}"),
        Rule("blocks.{n}.modulation", "blocks.{n}.scale_shift_table"),
        Rule("head.head.{p}", "proj_out.{p}"),
        Rule("head.modulation", "scale_shift_table"),
    ),
)


def _residual(source: str, target: str) -> tuple[Rule, ...]:
    names = {
        "residual.0": "norm1",
        "residual.2": "conv1",
        "residual.3": "norm2",
        "residual.6": "conv2",
        "shortcut": "conv_shortcut",
    }
    return tuple(Rule(f"{source}.{a}.{{p}}", f"{target}.{b}.{{p}}") for a, b in names.items())


def _rules_of_both_sides(side: str) -> tuple[Rule, ...]:
    """Rules that the VAE's encoder and decoder share."""
    return (
        Rule(f"{side}.conv1.{{p}}", f"{side}.conv_in.{{p}}"),
        *_residual(f"{side}.middle.0", f"{side}.mid_block.resnets.0"),
        *(
            Rule(f"{side}.middle.1.{a}.{{p}}", f"{side}.mid_block.attentions.0.{a}.{{p}}")
            for a in ("norm", "to_qkv", "proj")
        ),
        *_residual(f"{side}.middle.2", f"{side}.mid_block.resnets.1"),
        Rule(f"{side}.head.0.{{p}}", f"{side}.norm_out.{{p}}"),
        Rule(f"{side}.head.2.{{p}}", f"{side}.conv_out.{{p}}"),
    )


def _decoder_blocks(levels: int = 4, resnets: int = 3) -> tuple[Rule, ...]:
    """Rules of the decoder's levels.

    The original numbers all layers in one sequence; diffusers groups them by level, and each level but the last ends
    with an upsampler.
    """
    rules: list[Rule] = []
    for level in range(levels):
        first, block = level * (resnets + 1), f"decoder.up_blocks.{level}"
        for i in range(resnets):
            rules += _residual(f"decoder.upsamples.{first + i}", f"{block}.resnets.{i}")
        if level < levels - 1:
            last = f"decoder.upsamples.{first + resnets}"
            rules.append(Rule(f"{last}.resample.1.{{p}}", f"{block}.upsamplers.0.resample.1.{{p}}"))
            rules.append(Rule(f"{last}.time_conv.{{p}}", f"{block}.upsamplers.0.time_conv.{{p}}"))
    return tuple(rules)


VAE_ORIGINAL = KeyTable(
    "original Wan VAE",
    (
        Rule("conv1.{p}", "quant_conv.{p}"),
        Rule("conv2.{p}", "post_quant_conv.{p}"),
        *_rules_of_both_sides("encoder"),
        *_rules_of_both_sides("decoder"),
        *_residual("encoder.downsamples.{n}", "encoder.down_blocks.{n}"),
        Rule("encoder.downsamples.{n}.resample.1.{p}", "encoder.down_blocks.{n}.resample.1.{p}"),
        Rule("encoder.downsamples.{n}.time_conv.{p}", "encoder.down_blocks.{n}.time_conv.{p}"),
        *_decoder_blocks(),
    ),
)

UMT5_ORIGINAL = KeyTable(
    "original umT5 encoder",
    (
        Rule("token_embedding.{p}", "shared.{p}"),
        Rule("norm.{p}", "encoder.final_layer_norm.{p}"),
        Rule("blocks.{n}.norm1.{p}", "encoder.block.{n}.layer.0.layer_norm.{p}"),
        Rule("blocks.{n}.norm2.{p}", "encoder.block.{n}.layer.1.layer_norm.{p}"),
        *(Rule(f"blocks.{{n}}.attn.{a}.{{p}}", f"encoder.block.{{n}}.layer.0.SelfAttention.{a}.{{p}}") for a in "qkvo"),
        Rule(
            "blocks.{n}.pos_embedding.embedding.{p}",
            "encoder.block.{n}.layer.0.SelfAttention.relative_attention_bias.{p}",
        ),
        Rule("blocks.{n}.ffn.gate.0.{p}", "encoder.block.{n}.layer.1.DenseReluDense.wi_0.{p}"),
        Rule("blocks.{n}.ffn.fc1.{p}", "encoder.block.{n}.layer.1.DenseReluDense.wi_1.{p}"),
        Rule("blocks.{n}.ffn.fc2.{p}", "encoder.block.{n}.layer.1.DenseReluDense.wo.{p}"),
    ),
)

_CLIP_LAYER = "vision_model.encoder.layers.{n}"
CLIP_ORIGINAL = KeyTable(
    "original CLIP image encoder",
    (
        Rule("visual.cls_embedding", "vision_model.embeddings.class_embedding", leading_ones=2),
        Rule("visual.pos_embedding", "vision_model.embeddings.position_embedding.weight", leading_ones=1),
        Rule("visual.patch_embedding.{p}", "vision_model.embeddings.patch_embedding.{p}"),
        Rule("visual.pre_norm.{p}", "vision_model.pre_layrnorm.{p}"),
        Rule("visual.post_norm.{p}", "vision_model.post_layernorm.{p}"),
        Rule("visual.transformer.{n}.norm1.{p}", _CLIP_LAYER + ".layer_norm1.{p}"),
        Rule("visual.transformer.{n}.norm2.{p}", _CLIP_LAYER + ".layer_norm2.{p}"),
        Rule("visual.transformer.{n}.attn.to_qkv.{p}", tuple(f"{_CLIP_LAYER}.self_attn.{a}_proj.{{p}}" for a in "qkv")),
        Rule("visual.transformer.{n}.attn.proj.{p}", _CLIP_LAYER + ".self_attn.out_proj.{p}"),
        Rule("visual.transformer.{n}.mlp.0.{p}", _CLIP_LAYER + ".mlp.fc1.{p}"),
        Rule("visual.transformer.{n}.mlp.2.{p}", _CLIP_LAYER + ".mlp.fc2.{p}"),
    ),
    # Wan uses the tokens before the last layer, and neither the projection to the shared space nor the text half.
    ignored=("visual.head", "textual.{tail}", "log_scale"),
)

CLIP_PREFIX = "vision_model."
CLIP_PARTS = ("embeddings", "encoder", "pre_layrnorm", "post_layernorm")
CLIP_NAMES = KeyTable(
    "CLIP image encoder",
    (Rule("vision_model.{tail}", "vision_model.{tail}"),),
    # Written by CLIPVisionModelWithProjection and by older versions of transformers; not used here.
    ignored=("visual_projection.weight", "vision_model.embeddings.position_ids"),
)
CLIP_BARE_NAMES = KeyTable(
    "CLIP image encoder as transformers 5 writes it",
    tuple(Rule(f"{part}.{{tail}}", f"{CLIP_PREFIX}{part}.{{tail}}") for part in CLIP_PARTS),
    ignored=("visual_projection.weight", "embeddings.position_ids"),
)
UMT5_NAMES = KeyTable(
    "umT5 encoder",
    (
        Rule("shared.weight", "shared.weight"),
        Rule("encoder.block.{tail}", "encoder.block.{tail}"),
        Rule("encoder.final_layer_norm.weight", "encoder.final_layer_norm.weight"),
    ),
    ignored=("encoder.embed_tokens.weight",),
)


def _count(shapes: Shapes, template: str) -> int:
    pattern = re.compile(re.escape(template).replace(r"\{n\}", r"(\d+)") + r"\..+")
    return 1 + max((int(match[1]) for key in shapes if (match := pattern.fullmatch(key))), default=-1)


def _need(shapes: Shapes, key: str, where: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(
            f"{where}: {key} is not among its {len(shapes)} tensors with known names; check which file was given."
        )
    return shapes[key]


def transformer_config(
    shapes: Shapes, path: str | Path, original_config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Infer the configuration of a Wan transformer from the shapes of its tensors.

    Args:
        shapes: Shapes of the tensors, by their name in diffusers.
        path: The file or folder, for messages.
        original_config: The `config.json` beside the original weights, where there is one; it gives the number of
            heads and epsilon.

    Returns:
        Arguments of `WanTransformer3DModel`.

    Raises:
        CheckpointError: The tensors are not those of a Wan transformer.
    """
    where, original = f"{path} is not a Wan transformer", original_config or {}
    dim, in_channels, *patch = _need(shapes, "patch_embedding.weight", where)
    image = shapes.get("condition_embedder.image_embedder.norm1.weight")
    position = shapes.get("condition_embedder.image_embedder.pos_embed")
    heads = int(original.get("num_heads", max(1, dim // HEAD_DIM)))
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": in_channels,
        "out_channels": _need(shapes, "proj_out.weight", where)[0] // math.prod(patch),
        "text_dim": _need(shapes, "condition_embedder.text_embedder.linear_1.weight", where)[1],
        "freq_dim": _need(shapes, "condition_embedder.time_embedder.linear_1.weight", where)[1],
        "ffn_dim": _need(shapes, "blocks.0.ffn.net.0.proj.weight", where)[0],
        "num_layers": _count(shapes, "blocks.{n}"),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "qk_norm": "rms_norm_across_heads" if "blocks.0.attn1.norm_q.weight" in shapes else None,
        "eps": float(original.get("eps", 1e-6)),
        "image_dim": image[0] if image else None,
        "added_kv_proj_dim": dim if "blocks.0.attn2.add_k_proj.weight" in shapes else None,
        "pos_embed_seq_len": position[1] if position else None,
    }


def vae_config(shapes: Shapes, path: str | Path) -> dict[str, Any]:
    """Infer the configuration of Wan's VAE from the shapes of its tensors.

    Args:
        shapes: Shapes of the tensors, by their name in diffusers.
        path: The file or folder, for messages.

    Returns:
        Arguments of `AutoencoderKLWan`.

    Raises:
        CheckpointError: The tensors are not those of Wan's VAE.
    """
    where = f"{path} is not a Wan VAE"
    return {
        "base_dim": _need(shapes, "encoder.conv_in.weight", where)[0],
        "z_dim": _need(shapes, "post_quant_conv.weight", where)[0],
    }


def umt5_config(shapes: Shapes, path: str | Path) -> dict[str, Any]:
    """Infer the configuration of a umT5 encoder from the shapes of its tensors.

    What shapes do not tell is as in umT5-XXL: gated GELU, and positions of its own in each layer.

    Args:
        shapes: Shapes of the tensors, by their name in transformers.
        path: The file or folder, for messages.

    Returns:
        Arguments of `UMT5Config`.

    Raises:
        CheckpointError: The tensors are not those of a umT5 encoder.
    """
    where = f"{path} is not a umT5 encoder"
    vocabulary, dim = _need(shapes, "shared.weight", where)
    inner = _need(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight", where)[0]
    buckets, heads = _need(shapes, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", where)
    return {
        "vocab_size": vocabulary,
        "d_model": dim,
        "d_kv": inner // heads,
        "d_ff": _need(shapes, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", where)[0],
        "num_layers": _count(shapes, "encoder.block.{n}"),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "tie_word_embeddings": True,
    }


def clip_config(shapes: Shapes, path: str | Path) -> dict[str, Any]:
    """Infer the configuration of a CLIP image encoder from the shapes of its tensors.

    What shapes do not tell is as in ViT-H/14: exact GELU, and heads of 80 channels.

    Args:
        shapes: Shapes of the tensors, by their name in transformers with the prefix `vision_model.`.
        path: The file or folder, for messages.

    Returns:
        Arguments of `CLIPVisionConfig`.

    Raises:
        CheckpointError: The tensors are not those of a CLIP image encoder.
    """
    where = f"{path} is not a CLIP image encoder"
    dim, _, patch, _ = _need(shapes, "vision_model.embeddings.patch_embedding.weight", where)
    tokens = _need(shapes, "vision_model.embeddings.position_embedding.weight", where)[0]
    return {
        "hidden_size": dim,
        "intermediate_size": _need(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", where)[0],
        "num_hidden_layers": _count(shapes, "vision_model.encoder.layers.{n}"),
        "num_attention_heads": max(1, dim // CLIP_HEAD_DIM),
        "image_size": math.isqrt(tokens - 1) * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
        "projection_dim": 1024,
    }
