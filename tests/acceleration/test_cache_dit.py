"""The package cache-dit, which replaces the blocks by one module of its own and hands all of them what the first gets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.acceleration.cached_runs import HALF, SCALES, apart, counted, latents
from tests.pipeline.tiny_pipeline import transformer, wan_pipeline


class AllBlocks(nn.Module):
    """Runs all blocks on the arguments of the first, as cache-dit's pattern 3 does."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.inner = blocks

    def forward(self, tokens: torch.Tensor, context: Any, modulation: torch.Tensor, rotary: Any) -> torch.Tensor:
        for block in self.inner:
            tokens = block(tokens, context, modulation, rotary)
        return tokens


@pytest.fixture
def pipeline() -> FantasyTalkingPipeline:
    return wan_pipeline(transformer=transformer(num_layers=6))


@pytest.mark.parametrize("batching", ["on", "off"])
def test_blocks_that_a_package_calls_itself_do_not_get_each_others_keys(
    pipeline: FantasyTalkingPipeline, batching: str
) -> None:
    expected = latents(pipeline, batch_passes=batching)
    pipeline.transformer.blocks = nn.ModuleList([AllBlocks(pipeline.transformer.blocks)])
    assert torch.equal(latents(pipeline, batch_passes=batching, reuse_conditions="on"), expected)


@pytest.mark.parametrize(
    ("separate", "batching", "said"),
    [(False, "off", "one call .* there are 3, .* batch_passes='on'"), (True, "on", "two calls .* there is one")],
)
def test_passes_that_cache_dit_would_mix_are_refused(
    pipeline: FantasyTalkingPipeline, separate: bool, batching: str, said: str
) -> None:
    pipeline.transformer._has_separate_cfg = separate  # what cache-dit leaves on a transformer
    with pytest.raises(SettingsError, match=said):
        latents(pipeline, batch_passes=batching)


@pytest.fixture
def cached(pipeline: FantasyTalkingPipeline) -> Iterator[FantasyTalkingPipeline]:
    if importlib.util.find_spec("cache_dit") is None:
        pytest.skip("cache-dit is not installed")
    import cache_dit

    adapter = cache_dit.BlockAdapter(
        pipe=pipeline,
        transformer=pipeline.transformer,
        blocks=pipeline.transformer.blocks,
        forward_pattern=cache_dit.ForwardPattern.Pattern_3,
        has_separate_cfg=False,
    )
    plan = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1, Bn_compute_blocks=0, max_warmup_steps=2, residual_diff_threshold=0.1
    )
    cache_dit.enable_cache(adapter, cache_config=plan)
    yield pipeline
    cache_dit.disable_cache(adapter)


@pytest.mark.parametrize("scales", [SCALES, HALF], ids=["one set of passes", "passes change in mid-run"])
def test_cache_dit_skips_blocks_and_changes_little(cached: FantasyTalkingPipeline, scales: dict[str, Any]) -> None:
    plain = latents(wan_pipeline(transformer=transformer(num_layers=6)), batch_passes="on", **scales)
    with counted(cached, "blocks.3.ffn") as rows:
        made = latents(cached, batch_passes="on", **scales)
    assert 0 < apart(made, plain) < 0.05
    assert 0 < rows() < 2 * 8
