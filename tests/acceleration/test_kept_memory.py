"""What plans expect to be kept over the steps is what a sampling holds; the command line leaves it out where memory is short."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import psutil
import pytest
from diffusers.hooks import HookRegistry
from PIL import Image
from torch import Tensor, nn

from fantasytalking.acceleration.expected_peaks import expected_peaks
from fantasytalking.acceleration.kept_memory import UNBATCHED, cache_bytes, constant_tokens
from fantasytalking.acceleration.memory_plan import Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import read_sizes, sizes_of_modules
from fantasytalking.acceleration.resolve_plan import USABLE_HOST
from fantasytalking.cli.__main__ import main
from fantasytalking.generation.run_options import left_out
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import DECIDING_BY_PASS, GenerationSettings
from fantasytalking.transformer.attention import FantasyTalkingAttnProcessor, KeysValues
from tests.acceleration.cached_runs import SCALES
from tests.pipeline.tiny_pipeline import portrait, speech, transformer, wan_pipeline

CACHES = [name for name in get_args(get_type_hints(GenerationSettings)["cache"]) if name != "none"]
CLIP = Clip(13, 64, 64, 3, audio_tokens=28)


@pytest.fixture(scope="module")
def pipeline() -> FantasyTalkingPipeline:
    made = wan_pipeline()
    made.transformer.mag_ratios = [1.0] * 8
    return made


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def remembered(model: nn.Module) -> int:
    """Bytes of all tokens that the hooks of step caches hold."""
    registry = HookRegistry.check_if_exists_or_initialize(model)
    states: list[Any] = []
    for one in (registry, *registry._get_child_registries()):
        for hook in one.hooks.values():
            states += getattr(getattr(hook, "state_manager", None), "_state_cache", {}).values()
            states += getattr(hook, "states_of_passes", {}).values()
    held = {t.untyped_storage()._cdata: t for state in states for t in tensors_in(vars(state))}
    return sum(t.untyped_storage().nbytes() for t in held.values() if t.ndim == 3)


def made(pipeline: FantasyTalkingPipeline, seen: list[int], **settings: Any) -> None:
    def look(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> None:
        seen.append(remembered(pipeline.transformer))

    pipeline(portrait(64), speech(0.5), callback_on_step_end=look, output_type="latent", **{**SCALES, **settings})


@pytest.mark.parametrize("batching", ["on", "off"])
@pytest.mark.parametrize("cache", CACHES)
def test_a_step_cache_holds_what_the_plan_counts_with(
    pipeline: FantasyTalkingPipeline, cache: str, batching: Any
) -> None:
    if cache in UNBATCHED and batching == "on":
        return
    sizes, seen = sizes_of_modules(modules_of(pipeline)), list[int]()
    made(pipeline, seen, cache=cache, batch_passes=batching)
    counted = cache_bytes(sizes, MemoryPlan(dtype="float32", cache=cache, batch_passes=batching), CLIP)
    tokens = 3 * CLIP.tokens() * sizes.width * 4
    # SeaCache holds the input of the blocks only while they compute.
    spare = tokens if cache == "sea" else 0
    assert max(seen) == counted - spare


def modules_of(pipeline: FantasyTalkingPipeline) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


@pytest.mark.parametrize("batching", ["on", "off"])
def test_keys_and_values_are_those_that_the_plan_counts_with(
    pipeline: FantasyTalkingPipeline, batching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, kept = FantasyTalkingAttnProcessor._new_keys_values, list[KeysValues]()

    def spy(*args: Any) -> KeysValues:
        kept.append(compute(*args))
        return kept[-1]

    monkeypatch.setattr(FantasyTalkingAttnProcessor, "_new_keys_values", spy)
    made(pipeline, [], batch_passes=batching, reuse_conditions="on")
    sizes = sizes_of_modules(modules_of(pipeline))
    plan = MemoryPlan(dtype="float32", batch_passes=batching)
    numbers = sum(t.numel() for one in kept for t in tensors_in(list(vars(one).values())))
    # The tiny image encoder makes 5 tokens where CLIP makes 257.
    expected = constant_tokens(sizes, plan, CLIP) - 3 * (257 - 5)
    assert numbers == 2 * 2 * sizes.width * expected


def test_both_lists_of_caches_that_decide_by_pass_are_one() -> None:
    assert UNBATCHED == DECIDING_BY_PASS


def test_the_command_line_leaves_out_what_memory_is_short_of_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As many blocks as make their keys and values larger than all that decoding takes.
    wan_pipeline(transformer=transformer(num_layers=40)).save_pretrained(tmp_path / "model")
    Image.fromarray(portrait(64)).save(tmp_path / "face.png")
    write_video(tmp_path / "voice.mp4", [portrait(64)] * 12, 25, speech(0.5))
    files = {"model": "model", "image": "face.png", "audio": "voice.mp4", "output": "out.mp4"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    clip, sizes = dataclasses.replace(CLIP, passes=2), read_sizes(tmp_path / "model")

    def needed(**choices: Any) -> int:
        return expected_peaks(sizes, MemoryPlan(dtype="float32", **choices), clip, "cpu").host

    for choices, is_short in (({}, False), ({"reuse_conditions": "off"}, True)):
        free = math.ceil(needed(**choices) / USABLE_HOST) + 1024  # type: ignore[arg-type]
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert main(["generate", *words, "--device", "cpu", "--overwrite"]) == 0
        assert ("are computed on each step" in " ".join(capsys.readouterr().err.split())) == is_short


def test_a_cache_that_is_left_out_is_told() -> None:
    (told,) = left_out(MemoryPlan(), {"cache": "pab"})
    assert told.startswith("The step cache pab is left out, as there is too little memory")
    assert left_out(MemoryPlan(cache="pab"), {"cache": "pab"}) == []
