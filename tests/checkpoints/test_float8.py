"""Layers that are stored in eight bits and compute in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.checkpoints import load_text_encoder, load_transformer, load_vae
from fantasytalking.checkpoints.quantised_layers import Float8Linear
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.pipeline.tiny_pipeline import portrait, speech, wan_pipeline

FLOAT8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float8") / "model"
    wan_pipeline().save_pretrained(path)
    return path


def frames(pipeline: FantasyTalkingPipeline) -> NDArray[Any]:
    scales: dict[str, Any] = {"prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
    return pipeline(portrait(), speech(0.3), prompt="a woman speaks", seed=5, **scales).frames.astype(int)


def test_the_large_layers_are_stored_in_float8_and_the_video_is_nearly_the_same(folder: Path) -> None:
    transformer = load_transformer(folder, FLOAT8, config={"num_attention_heads": 2})
    types = {name: weight.dtype for name, weight in transformer.named_parameters()}
    layer = transformer.blocks[0].ffn.net[2]
    assert isinstance(layer, Float8Linear) and layer.stored_as == FLOAT8 and layer.weight.element_size() == 1
    # The adapter is small, and what the lips follow.
    assert types["blocks.1.attn2.processor.audio_k_proj.weight"] == torch.bfloat16
    assert types["audio_projector.proj.weight"] == types["patch_embedding.weight"] == torch.bfloat16
    assert types["scale_shift_table"] == types["blocks.0.norm2.weight"] == torch.float32
    assert transformer.dtype == torch.bfloat16
    pipeline = FantasyTalkingPipeline.from_pretrained(folder, transformer=transformer)
    plain = frames(FantasyTalkingPipeline.from_pretrained(folder))
    # Random weights of a tiny model do not average rounding out: 2.9 levels of 255; another seed differs by 10.8.
    assert np.abs(frames(pipeline) - plain).mean() < 4
    assert {name: weight.dtype for name, weight in transformer.named_parameters()} == types


def test_parts_that_start_fresh_are_kept_in_the_type_that_computes(folder: Path) -> None:
    config = {"num_attention_heads": 2, "identity_dim": 20, "identity_feature_dim": 192, "motion": True}
    transformer = load_transformer(folder, FLOAT8, config=config)
    pipeline = FantasyTalkingPipeline.from_pretrained(folder, transformer=transformer)
    assert np.isfinite(frames(pipeline)).all()
    assert isinstance(transformer.blocks[0].attn2.to_q, Float8Linear)
    assert transformer.blocks[0].attn2.processor.identity_k_proj.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("load", [load_vae, load_text_encoder])
def test_other_parts_say_that_they_cannot(folder: Path, load: object) -> None:
    with pytest.raises(SettingsError, match="cannot be stored in float8_e4m3fn, only the transformer can"):
        load(folder, FLOAT8)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [FLOAT8, {"default": torch.bfloat16, "transformer": torch.float8_e5m2}])
def test_a_whole_pipeline_in_float8_is_refused_with_the_way_out(folder: Path, dtype: object) -> None:
    with pytest.raises(SettingsError, match=r"cannot compute in float8.*load_transformer"):
        FantasyTalkingPipeline.from_pretrained(folder, dtype=dtype)
