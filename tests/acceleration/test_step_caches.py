"""The step caches of diffusers, enabled as its users do it, through the pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import nullcontext as no_context
from typing import Any

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    WanTransformer3DModel,
)
from diffusers.hooks import HookRegistry, SeaCacheConfig, TextKVCacheConfig, apply_first_block_cache

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.acceleration.cached_runs import HALF, SCALES, STEPS, apart, counted, latents
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline
from tests.tiny import WAN_CONFIG, tiny_latents


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    return wan_pipeline(transformer=transformer(num_layers=4))


@pytest.fixture(autouse=True)
def _disabled(pipeline: FantasyTalkingPipeline) -> Iterator[None]:
    yield
    if pipeline.transformer.is_cache_enabled:
        pipeline.transformer.disable_cache()


def config(name: str, pipeline: Any) -> Any:
    """A cache that skips some steps of the tiny model."""
    return {
        "first-block": lambda: FirstBlockCacheConfig(threshold=0.06),
        "magcache": lambda: MagCacheConfig(threshold=0.1, num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS),
        "taylorseer": lambda: TaylorSeerCacheConfig(
            cache_interval=2, taylor_factors_dtype=torch.float32, use_lite_mode=True
        ),
        "taylorseer of attention": lambda: TaylorSeerCacheConfig(cache_interval=2, taylor_factors_dtype=torch.float32),
        "sea": lambda: SeaCacheConfig(threshold=0.6),
        "pab": lambda: PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            cross_attention_block_skip_range=2,
            current_timestep_callback=lambda: pipeline.current_timestep,
        ),
    }[name]()


BOUNDS = {
    "first-block": 0.1,
    "magcache": 0.1,
    "taylorseer": 0.1,
    "taylorseer of attention": 0.1,
    "sea": 0.1,
    "pab": 0.1,
}
"""Largest difference from the plain result, in shares of the largest latent."""


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("settings", [SCALES, HALF], ids=["one set of passes", "passes change in mid-run"])
def test_a_cache_changes_little_and_passes_batched_or_not_are_one(
    pipeline: FantasyTalkingPipeline, name: str, settings: dict[str, Any]
) -> None:
    part = "blocks.2.attn1.to_q" if name in ("pab", "taylorseer of attention") else "blocks.2.ffn"
    with counted(pipeline, part) as rows:
        plain, made, computed = latents(pipeline, **settings), [], [rows()]
    pipeline.transformer.enable_cache(config(name, pipeline))
    for batching in ("off", "on"):
        told = (
            pytest.warns(UserWarning, match="no effect") if (name, batching) == ("first-block", "on") else no_context()
        )
        with counted(pipeline, part) as rows, told:
            made.append(latents(pipeline, batch_passes=batching, **settings))
        computed.append(rows())
    apart_from_plain = apart(made[0], plain)
    assert 0 < apart_from_plain < BOUNDS[name]
    assert apart(made[1], made[0]) < 1e-5
    assert computed[0] > computed[1] == computed[2]


def test_a_broken_generation_leaves_nothing_to_the_next(pipeline: FantasyTalkingPipeline) -> None:
    pipeline.transformer.enable_cache(config("taylorseer", pipeline))
    expected = latents(pipeline, seed=1)

    def stop(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> Any:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline(portrait(), speech(0.4), callback_on_step_end=stop, output_type="latent", seed=2, **SCALES)
    assert torch.equal(latents(pipeline, seed=1), expected)


def test_a_pass_that_begins_late_goes_by_the_ratios_of_its_steps(pipeline: FantasyTalkingPipeline) -> None:
    """Ratios that forbid skipping in the second half, where the pass with speech has its first calls."""
    ratios = [1.0] * (STEPS // 2) + [2.0] * (STEPS // 2)
    late = {**HALF, "audio_start_percent": 50, "audio_end_percent": 100}
    plan = MagCacheConfig(threshold=0.1, retention_ratio=0, num_inference_steps=STEPS, mag_ratios=ratios)
    pipeline.transformer.enable_cache(plan)
    for batching in ("off", "on"):
        with counted(pipeline) as rows:
            latents(pipeline, batch_passes=batching, **late)
        assert rows() == 2 * (1 + STEPS // 2)


def test_a_batch_that_does_not_fit_into_memory_takes_the_cache_along(pipeline: FantasyTalkingPipeline) -> None:
    pipeline.transformer.enable_cache(config("magcache", pipeline))
    expected = latents(pipeline, batch_passes="off")

    def too_small(module: Any, inputs: Any) -> None:
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("no room for a batch")

    # in the last block, so that the first ones have begun a state of the batch
    hook = pipeline.transformer.blocks[3].attn1.register_forward_pre_hook(too_small)
    try:
        assert torch.equal(latents(pipeline, batch_passes="auto"), expected)
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: FasterCacheConfig(current_timestep_callback=lambda: 500), "no Wan model works with it"),
        (lambda: TextKVCacheConfig(), "reuse_conditions"),
    ],
)
def test_a_cache_that_cannot_work_is_refused_in_a_sentence(
    pipeline: FantasyTalkingPipeline, made: Any, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        pipeline.transformer.enable_cache(made())
    assert not pipeline.transformer.is_cache_enabled


def test_faster_cache_fails_with_plain_wan_too() -> None:
    """As diffusers' own pipeline calls it, a pass at a time."""
    wan = WanTransformer3DModel(**{**WAN_CONFIG, "image_dim": None, "added_kv_proj_dim": None}).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wan.enable_cache(FasterCacheConfig(current_timestep_callback=lambda: 500, tensor_format="BCFHW"))
        with pytest.raises(IndexError, match="out of range"), torch.no_grad(), wan.cache_context("cond"):
            wan(tiny_latents(), torch.tensor([500.0]), torch.randn(1, 7, WAN_CONFIG["text_dim"]))


def test_magcache_for_another_number_of_steps_is_refused(pipeline: FantasyTalkingPipeline) -> None:
    pipeline.transformer.enable_cache(config("magcache", pipeline))
    with pytest.raises(SettingsError, match=rf"set up for {STEPS} steps, but there are 5; .*num_inference_steps=5"):
        latents(pipeline, steps=5)


def test_a_model_of_one_block_has_nothing_to_skip() -> None:
    with pytest.raises(SettingsError, match="only one"):
        transformer(num_layers=1).enable_cache(FirstBlockCacheConfig())


def test_a_cache_goes_with_offload_by_blocks() -> None:
    pipeline = wan_pipeline(transformer=transformer(num_layers=4))
    pipeline.transformer.enable_cache(config("magcache", pipeline))
    expected = latents(pipeline)
    pipeline.transformer.disable_cache()
    cpu = torch.device("cpu")
    pipeline.transformer.enable_group_offload(
        onload_device=cpu, offload_device=cpu, offload_type="block_level", num_blocks_per_group=1
    )
    pipeline.transformer.enable_cache(config("magcache", pipeline))
    assert apart(latents(pipeline), expected) < 1e-5


def test_a_cache_that_is_applied_by_diffusers_function_finds_its_contexts(pipeline: FantasyTalkingPipeline) -> None:
    expected = latents(pipeline)
    apply_first_block_cache(pipeline.transformer, FirstBlockCacheConfig(threshold=0.06))
    try:
        assert 0 < apart(latents(pipeline), expected) < BOUNDS["first-block"]
    finally:
        registry = HookRegistry.check_if_exists_or_initialize(pipeline.transformer)
        for name in ("fbc_leader_block_hook", "fbc_block_hook"):
            registry.remove_hook(name, recurse=True)
    assert torch.equal(latents(pipeline), expected)
