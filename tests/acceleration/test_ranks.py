"""Two and four processes give the video of one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ContextParallelConfig

from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from tests.acceleration.cached_runs import HALF, apart
from tests.acceleration.long_runs import FILMED, LONG, footage
from tests.acceleration.parallel_runs import BY_DIFFUSERS, Case, LongCase, Result, latents_of, run_together
from tests.pipeline.tiny_pipeline import transformer, wan_pipeline

ODD = (80, 48)
"""5 x 3 tokens in each of three latent frames: 45, of which no number of processes has the same, and which cut frames in two."""
THREE_BLOCKS = {"num_layers": 3}


def with_ratios(pipeline: FantasyTalkingPipeline) -> None:
    pipeline.transformer.mag_ratios = [1.0, 1.1, 0.9, 1.05]


def streamed(pipeline: FantasyTalkingPipeline) -> None:
    cpu = torch.device("cpu")
    pipeline.transformer.enable_group_offload(cpu, cpu, offload_type="block_level", num_blocks_per_group=1)


def without_memory(pipeline: FantasyTalkingPipeline) -> None:
    """Run out of memory in the pass with speech, which the second of two processes has."""

    def fail(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if args[2].audio is not None:
            raise torch.OutOfMemoryError("no memory left")

    pipeline.transformer.register_forward_hook(fail, with_kwargs=True)


def no_portrait_for_the_second(rank: int) -> dict[str, Any]:
    return {"image": "nowhere.png"} if rank == 1 else {}


def stopped_by_the_second(rank: int) -> dict[str, Any]:
    def stop(pipeline: FantasyTalkingPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
        pipeline._interrupt = rank == 1 and step == 1

    return {"callback_on_step_end": stop}


def cached(plan: str, name: str, **settings: Any) -> Case:
    return Case(plan, {"cache": name, "batch_passes": "off", **settings}, THREE_BLOCKS, prepare=with_ratios)


CACHES: dict[str, dict[str, Any]] = {
    "first-block": {"cache_threshold": 0.4},
    "magcache": {"cache_threshold": 0.9, "cache_interval": 3},
    "sea": {"cache_threshold": 0.9},
    "taylorseer": {"cache_interval": 2},
    "pab": {"cache_interval": 2},
}
TWO = {
    "tokens that cannot be divided": Case(BY_DIFFUSERS, size=ODD, parts={"audio_positions": 15}),
    "frames cut in two": Case("ulysses=2", {"reuse_conditions": "on"}),
    "speech by clip": Case("ulysses=2", {"audio_level": "clip"}, size=ODD),
    "identity and motion": Case("ulysses=2", embedded=True),
    "three heads": Case("ulysses=2", parts={"num_attention_heads": 3, "added_kv_proj_dim": 36}),
    "blocks in groups": Case("ulysses=2", prepare=streamed),
    "passes that change": Case("guidance=2", HALF),
    "three passes": Case("guidance=2", {"batch_passes": "on"}),
    "two passes by themselves": Case("auto", {**HALF, "reuse_conditions": "off"}),
    "one pass": Case("guidance=2", {"prompt_guidance_scale": 1.0, "audio_guidance_scale": 1.0}),
    **{
        f"{name} with {plan}": cached(plan, name, **settings)
        for plan in ("ulysses=2", "guidance=2")
        for name, settings in CACHES.items()
    },
}
STOPPED = Case("guidance=2", arguments=stopped_by_the_second)
TWO_FAIL = {
    "ImageError: ": Case("guidance=2", arguments=no_portrait_for_the_second),
    "OutOfMemory: ": Case("guidance=2", HALF | {"audio_start_percent": 0.0}, prepare=without_memory),
    "SettingsError: guidance=3,ulysses=1 is for 3 processes, but there are 2.": Case("guidance=3"),
    "SettingsError: The processes of a video are given as auto, guidance=2, ulysses=4": Case("tokens=2"),
}
"""How the error of both begins -> case."""
FOUR = {
    "both": Case("guidance=2,ulysses=2", HALF, size=ODD),
    "identity": Case("guidance=2,ulysses=2", {"batch_passes": "on"}, embedded=True),
    "tokens": Case("auto", size=ODD, parts={"num_attention_heads": 4, "added_kv_proj_dim": 48}),
}
FOUR_FAIL = {
    "SettingsError: Ulysses shares the 2 attention heads of this model, which 4 processes cannot do; use one of 1, 2.": Case(
        BY_DIFFUSERS
    )
}


Alone = Callable[[str], dict[str, Any]]


def long_case(name: str, folder: Path) -> LongCase:
    return LongCase(*LONG[name], folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("two")
    footage(folder)
    long = {f"long, {name}": long_case(name, folder) for name in LONG}
    return run_together(2, {**TWO, **TWO_FAIL, "stopped": STOPPED, **long})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """What one process gives of a long case."""
    folder = tmp_path_factory.mktemp("alone")
    footage(folder)
    return functools.cache(lambda name: long_case(name, folder).outcome())


@pytest.fixture(scope="module")
def four() -> list[Result]:
    return run_together(4, {**FOUR, **FOUR_FAIL})


def check(results: list[Result], name: str, expected: torch.Tensor) -> None:
    for result in results:
        got = result[name]
        assert isinstance(got, torch.Tensor), got
        assert apart(got, expected) < 1e-5


@pytest.mark.parametrize("name", TWO)
def test_two_processes_give_the_video_of_one(two: list[Result], name: str) -> None:
    check(two, name, latents_of(TWO[name]))


def test_a_callback_of_one_process_stops_all(two: list[Result]) -> None:
    check(two, "stopped", latents_of(STOPPED, rank=1))


@pytest.mark.parametrize("beginning", TWO_FAIL)
def test_an_error_of_one_process_is_an_error_of_all(two: list[Result], beginning: str) -> None:
    for result in two:
        assert str(result[beginning]).startswith(beginning)


def long_of(two: list[Result], name: str) -> list[dict[str, Any]]:
    """What the first and the second process give of a long case."""
    found = [result[f"long, {name}"] for result in two]
    assert all(isinstance(one, dict) for one in found), found
    return found


def check_latents(made: list[Any], expected: list[Any]) -> None:
    assert len(made) == len(expected) > 0
    for one, other in zip(made, expected, strict=True):
        assert apart(torch.from_numpy(one), torch.from_numpy(other)) < 1e-5


def check_frames(made: Any, expected: Any) -> None:
    """The same frames but for the rounding of a value that lies between two bytes."""
    assert len(made) == len(expected) > 0
    assert np.abs(np.stack(made).astype(int) - np.stack(expected)).max() <= 1


def test_two_processes_continue_a_video_as_one_does(two: list[Result], alone: Alone) -> None:
    expected = alone("iterated")
    assert len(expected["latents"]) == 3
    for result in long_of(two, "iterated"):
        check_latents(result["latents"], expected["latents"])
        check_frames(result["frames"], expected["frames"])


def test_two_processes_fuse_windows_as_one_does_and_the_first_alone_writes(two: list[Result], alone: Alone) -> None:
    expected = alone("windows")
    first, second = long_of(two, "windows")
    for result in (first, second):
        check_latents(result["latents"], expected["latents"])
        assert (result["count"], result["read"]) == (46, 46)
    check_frames(first["frames"], expected["frames"])
    assert second["frames"] == []


def test_two_processes_write_fused_windows_that_an_interrupted_run_has_sampled(two: list[Result], alone: Alone) -> None:
    expected = alone("windows")
    first, second = long_of(two, "windows resumed")
    for result in (first, second):
        assert result["error"].startswith("OutputError: the disk is full") and result["own"] == 0
        check_latents(result["latents"], expected["latents"])
        assert result["count"] == 46
    check_frames(first["frames"], expected["frames"])
    assert second["frames"] == []
    assert any("2 of 2 steps" in note and "goes on from there" in note for note in first["notes"])


def test_two_processes_go_on_with_what_an_interrupted_run_has_left(two: list[Result], alone: Alone) -> None:
    expected = alone("iterated")
    first, second = long_of(two, "resumed")
    assert (first["error"], second["error"]) == (
        "ResourceError: Process 1 of this run failed: ValueError: no good",
        "ValueError: no good",
    )
    for result in (first, second):
        # Two of the three segments are not sampled again.
        assert result["own"] == 1 and result["count"] == (46, [25, 41], 46)
        check_latents(result["latents"], expected["latents"])
    check_frames(first["frames"], expected["frames"])
    assert second["frames"] == []
    assert any("goes on from there" in note for note in first["notes"])


@pytest.mark.parametrize(
    ("name", "call", "beginning"),
    [
        ("full disk", "writing", "OutputError: the disk is full"),
        ("full disk", "in the way", "OutputError: "),
        ("without memory", "error", "OutOfMemory"),
    ],
)
def test_an_error_in_the_middle_of_a_long_video_is_one_of_all(
    two: list[Result], name: str, call: str, beginning: str
) -> None:
    for result in long_of(two, name):
        assert result[call].startswith(beginning)


def test_a_callback_of_one_process_ends_a_long_video_in_all(two: list[Result], alone: Alone) -> None:
    expected = alone("iterated")
    for result in long_of(two, "stopped"):
        check_latents(result["latents"], expected["latents"][:2])
        assert len(result["frames"]) == 41
        # The last nine would be cross-faded with those of a third segment.
        check_frames(result["frames"][:32], expected["frames"][:32])


def test_the_first_of_two_processes_is_given_the_frames_of_a_stream(two: list[Result], alone: Alone) -> None:
    first, second = long_of(two, "streamed")
    check_frames(first["frames"], alone("streamed")["frames"])
    assert second["frames"] == [] and (first["few"], second["few"]) == (3, 0)


def test_two_processes_dub_two_people_as_one_does(two: list[Result], alone: Alone) -> None:
    expected = alone("dubbed")
    first, second = long_of(two, "dubbed")
    check_frames(first["frames"], expected["frames"])
    assert second["frames"] == []
    assert first["count"] == second["count"] == expected["count"] and first["file"] == second["file"] == FILMED


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUR)
def test_four_processes_give_the_video_of_one(four: list[Result], name: str) -> None:
    check(four, name, latents_of(FOUR[name]))


@pytest.mark.slow
@pytest.mark.parametrize("beginning", FOUR_FAIL)
def test_what_four_processes_cannot_share_is_one_sentence(four: list[Result], beginning: str) -> None:
    for result in four:
        assert str(result[beginning]).startswith(beginning)


def test_ring_attention_is_refused_where_plain_wan_fails() -> None:
    with pytest.raises(SettingsError, match="nor for diffusers' Wan; use ulysses_degree"):
        transformer().enable_parallelism(config=ContextParallelConfig(ring_degree=2))


def test_a_process_without_others_is_told_how_to_start_them() -> None:
    with pytest.raises(SettingsError, match="start them with torchrun"):
        wan_pipeline().enable_parallel("guidance=2")
    with pytest.raises(SettingsError, match="start them with torchrun"):
        transformer().enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
