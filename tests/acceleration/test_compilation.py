"""`torch.compile` of the whole transformer and of its blocks, with the backend that only traces; torch's own counters count the graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.acceleration.cached_runs import SCALES, STEPS, apart, latents
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def made(pipeline: FantasyTalkingPipeline, seconds: float = 0.4, **settings: Any) -> torch.Tensor:
    """Latents after two steps of three passes."""
    seen: list[torch.Tensor] = []
    pipeline(
        portrait(),
        speech(seconds),
        callback_on_step_end=lambda pipeline, step, timestep, tensors: seen.append(tensors["latents"].clone()),
        output_type="latent",
        **{**SCALES, "steps": 2, **settings},
    )
    return seen[-1]


@pytest.mark.slow
def test_the_whole_model_is_one_graph_for_all_lengths_sizes_and_scales() -> None:
    runs: list[dict[str, Any]] = [
        {},
        {"seconds": 0.7, "longest_side": 80, "audio_scale": 0.7},
        {"seconds": 1.0, "longest_side": 96, "audio_scale": 0.3, "audio_guidance_scale": 3.0},
    ]
    pipeline = wan_pipeline(transformer=transformer(num_layers=1))
    plain = [made(pipeline, batch_passes="on", **run) for run in runs]
    pipeline.transformer.compile(backend="eager", fullgraph=True)
    counts = []
    for run, expected in zip(runs, plain, strict=True):
        # without constants, so that the graph holds everything that a model does
        assert apart(made(pipeline, batch_passes="on", reuse_conditions="off", **run), expected) < 1e-5
        counts.append(graphs())
    # fixed sides at first, and from the second clip on any
    assert counts == [1, 2, 2]
    assert not counters["graph_break"]


@pytest.mark.slow
def test_passes_one_by_one_are_a_graph_with_speech_and_one_without() -> None:
    pipeline = wan_pipeline(transformer=transformer(num_layers=1))
    expected = made(pipeline, batch_passes="off")
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager", fullgraph=True)
    assert apart(made(pipeline, batch_passes="off"), expected) < 1e-5
    made(pipeline, batch_passes="off", seed=1, audio_scale=0.5)
    assert graphs() == 2


def test_blocks_share_their_graphs_and_keep_their_constants() -> None:
    pipeline = wan_pipeline(transformer=transformer(num_layers=4))
    expected = made(pipeline, batch_passes="on")
    pipeline.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert apart(made(pipeline, batch_passes="on", reuse_conditions="on"), expected) < 1e-5
    assert graphs() == 1


@pytest.mark.parametrize(
    "cache",
    [
        {"cache": "magcache", "cache_threshold": 0.1},
        pytest.param({"cache": "first-block", "cache_threshold": 0.06}, marks=pytest.mark.slow),
        {"cache": "taylorseer", "cache_interval": 2},
    ],
    ids=["magcache", "first-block", "taylorseer"],
)
def test_a_cache_goes_with_compiled_blocks(cache: dict[str, Any]) -> None:
    pipeline = wan_pipeline(transformer=transformer(num_layers=3), mag_ratios=[1.0] * STEPS)
    expected = latents(pipeline, reuse_conditions="on", **cache)
    pipeline.transformer.compile_repeated_blocks(backend="eager")
    assert apart(latents(pipeline, reuse_conditions="on", **cache), expected) < 1e-5
