"""From memory to a plan, for the released shapes: what is chosen fits, and whoever gives less gets a plan that takes less."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch

from fantasytalking.acceleration.expected_peaks import expected_peaks
from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import sizes_of_modules
from fantasytalking.acceleration.resolve_plan import MEMORY, Machine, describe_run, next_plan, resolve_plan, too_little
from fantasytalking.errors import OutOfMemory, SettingsError
from fantasytalking.geometry import fit_size, released_frame_count
from tests.acceleration.released_shapes import released_modules, released_sizes

CLIP = Clip(81, 512, 512, 2)
LARGE = Clip(81, 720, 1280, 2)


def card(gib: float, host: float = 64) -> Machine:
    return Machine("cuda", int(gib * GIB), int(host * GIB))


@pytest.mark.parametrize(
    ("gib", "host", "expected"),
    [
        (12, 64, ("low", "groups", "bfloat16")),
        (12, 16, ("minimal", "disk", "bfloat16")),
        (16, 64, ("low", "groups", "bfloat16")),
        (24, 64, ("low", "groups", "bfloat16")),
        (24, 32, ("minimal", "disk", "bfloat16")),
        (32, 64, ("low", "groups", "bfloat16")),
        (48, 64, ("balanced", "model", "bfloat16")),
        (80, 64, ("high", "none", "bfloat16")),
        (80, 16, ("high", "none", "bfloat16")),
        (141, 64, ("high", "none", "bfloat16")),
    ],
)
def test_each_card_gets_a_plan_that_fits(gib: float, host: float, expected: tuple[str, str, str]) -> None:
    for clip in (CLIP, LARGE if gib > 12 else CLIP):
        run = resolve_plan(released_sizes(), clip, card(gib, host))
        assert (run.plan.name, run.plan.offload, run.plan.dtype) == expected and run.plan.quantize == "none"
        assert run.fits and run.peaks.device_peak < 0.92 * gib * GIB and run.peaks.host < host * GIB


@pytest.mark.parametrize("clip", [CLIP, LARGE])
@pytest.mark.parametrize("overrides", [{}, {"quantize": "fp8"}, {"quantize": "fp8", "offload": "model"}])
def test_a_plan_for_24_gb_holds_at_most_22(clip: Clip, overrides: dict[str, Any]) -> None:
    if clip == LARGE and "offload" in overrides:
        with pytest.raises(OutOfMemory, match="do without --offload"):
            resolve_plan(released_sizes(), clip, card(24), overrides=overrides)
        return
    run = resolve_plan(released_sizes(), clip, card(24), overrides=overrides)
    assert run.fits and max(run.peaks.device.values()) <= 22 * GIB


def test_what_keeps_passes_apart_and_cuts_frames_takes_less() -> None:
    sizes = released_sizes()
    whole, apart, tiled, small = (
        expected_peaks(sizes, MemoryPlan(**choices), LARGE)  # type: ignore[arg-type]
        for choices in ({}, {"batch_passes": "off"}, {"vae_tiling": True}, {"quantize": "fp8"})
    )
    assert apart.device["sampling"] < whole.device["sampling"] - 8 * GIB
    assert tiled.device["decoding"] < whole.device["decoding"] - 10 * GIB
    # the matrices of the blocks, but not the adapter's
    assert small.device["sampling"] < whole.device["sampling"] - 14 * GIB


def test_below_a_plan_that_ran_out_of_memory_is_one_that_takes_less() -> None:
    sizes, machine = released_sizes(), card(141)
    run = resolve_plan(sizes, CLIP, machine)
    names, peaks = [run.plan.name], [run.peaks.device_peak]
    while (lower := next_plan(sizes, CLIP, machine, run.plan)) is not None:
        run = lower
        names.append(run.plan.name)
        peaks.append(run.peaks.device_peak)
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] < 7 * GIB
    assert list(dict.fromkeys(names)) == ["high", "balanced", "low"] or names[-1] == "minimal"


def with_advice(clip: Clip, told: str, option: str) -> Clip:
    """The clip as the sentence of an error advises it."""
    found = re.search(rf"use --{option} ([\d.]+)", told)
    assert found is not None, told
    if option == "longest-side":
        width, height = fit_size(clip.width, clip.height, int(found[1]))
        return dataclasses.replace(clip, width=width, height=height)
    return dataclasses.replace(clip, frames=released_frame_count(float(found[1]), clip.fps, clip.frames))


@pytest.mark.parametrize("gib", [8, 10, 12])
@pytest.mark.parametrize("option", ["longest-side", "max-seconds"])
def test_the_largest_clip_that_fits_is_told_and_the_next_larger_does_not(gib: float, option: str) -> None:
    with pytest.raises(OutOfMemory, match=r"expected to need .* GiB on the device") as raised:
        resolve_plan(released_sizes(), LARGE, card(gib))
    smaller = with_advice(LARGE, str(raised.value), option)
    assert smaller.tokens() < LARGE.tokens() and resolve_plan(released_sizes(), smaller, card(gib)).fits
    larger = (
        dataclasses.replace(smaller, frames=smaller.frames + 4)
        if option == "max-seconds"
        else dataclasses.replace(smaller, width=smaller.width + 16, height=smaller.height + 16)
    )
    with pytest.raises(OutOfMemory):
        resolve_plan(released_sizes(), larger, card(gib))


def test_options_that_are_in_the_way_are_told() -> None:
    with pytest.raises(OutOfMemory, match="can be used; do without --offload, or free the device"):
        resolve_plan(released_sizes(), LARGE, card(24), overrides={"offload": "model"})
    with pytest.raises(OutOfMemory, match="do without --batch-passes"):
        resolve_plan(released_sizes(), LARGE, card(16), overrides={"batch_passes": "on"})
    with pytest.raises(OutOfMemory, match=r"minimal .* \(sampling\).* 2\.\d GiB.*no other option.*with 8 GiB free"):
        resolve_plan(released_sizes(), CLIP, card(3))


def test_too_little_main_memory_is_told_with_what_takes_less() -> None:
    with pytest.raises(OutOfMemory, match=r"GiB of main memory.*no other option .*machine with 7 GiB free"):
        resolve_plan(released_sizes(), CLIP, card(24, host=4))
    as_float32 = sizes_of_modules(released_modules(), torch.float32)
    with pytest.raises(OutOfMemory, match=r"main memory.*use --quantize fp8, or .*convert --dtype bfloat16") as raised:
        resolve_plan(as_float32, CLIP, card(12, host=40))
    assert "--longest-side" not in str(raised.value)
    assert resolve_plan(as_float32, CLIP, card(12, host=40), overrides={"quantize": "fp8"}).fits
    assert resolve_plan(released_sizes(), CLIP, card(12, host=40)).fits


def test_a_cpu_is_refused_nothing_and_told_what_would_fit() -> None:
    machine = Machine("cpu", 8 * GIB, 8 * GIB)
    run = resolve_plan(released_sizes(), LARGE, machine)
    assert not run.fits and run.plan.dtype == "bfloat16"
    told = too_little(run, released_sizes(), LARGE, machine, {})
    for option in ("longest-side", "max-seconds"):
        assert resolve_plan(released_sizes(), with_advice(LARGE, told, option), machine).fits


def test_a_mac_copies_the_model_and_needs_64_gb() -> None:
    enough = resolve_plan(released_sizes(), CLIP, Machine("mps", 60 * GIB, 60 * GIB))
    assert enough.fits and enough.plan.dtype == "bfloat16" and enough.peaks.host > 46 * GIB
    short = Machine("mps", 34 * GIB, 34 * GIB)
    run = resolve_plan(released_sizes(), CLIP, short)
    assert not run.fits and "use --quantize fp8" not in too_little(run, released_sizes(), CLIP, short, {})
    cpu = resolve_plan(released_sizes(), CLIP, Machine("cpu", 30 * GIB, 30 * GIB))
    assert cpu.fits and (cpu.plan.name, cpu.plan.dtype) == ("minimal", "bfloat16") and cpu.peaks.host < 4 * GIB


def test_short_memory_turns_off_what_is_kept_and_then_the_cache() -> None:
    sizes = released_sizes()
    plenty = resolve_plan(sizes, CLIP, card(80), overrides={"cache": "magcache"})
    assert (plenty.plan.reuse_conditions, plenty.plan.cache, plenty.plan.batch_passes) == ("on", "magcache", "on")
    short = resolve_plan(
        sizes, CLIP, card((plenty.peaks.device_peak + 0.5 * GIB) / 0.92 / GIB - 0.5), "high", {"cache": "magcache"}
    )
    assert (short.plan.reuse_conditions, short.plan.cache) == ("off", "magcache") and short.fits
    assert short.peaks.device["sampling"] < plenty.peaks.device["sampling"] - 1.4 * GIB
    without = resolve_plan(sizes, CLIP, card(60), "high", {"cache": "pab"})
    assert without.plan.cache == "none" and without.fits
    assert resolve_plan(sizes, CLIP, card(141), "high", {"cache": "pab"}).plan.cache == "pab"


@pytest.mark.parametrize("gib", [12, 24])
def test_a_plan_from_disk_gives_up_no_more_than_it_must(gib: float) -> None:
    """Passes in one batch read each block from its file once a step, not twice."""
    chosen = resolve_plan(released_sizes(), CLIP, card(gib, 16))
    assert (chosen.plan.offload, chosen.fits) == ("disk", True)
    assert (chosen.plan.batch_passes, chosen.plan.vae_tiling, chosen.plan.reuse_conditions) == ("on", False, "on")
    named = resolve_plan(released_sizes(), CLIP, card(gib, 16), "minimal")
    assert (named.plan.batch_passes, named.plan.vae_tiling, named.plan.reuse_conditions) == ("off", True, "off")
    lower = next_plan(released_sizes(), CLIP, card(gib, 16), chosen.plan)
    assert lower is not None and lower.peaks.device_peak < chosen.peaks.device_peak


def test_a_named_plan_is_taken_even_where_it_is_not_expected_to_fit() -> None:
    run = resolve_plan(released_sizes(), CLIP, card(24), "high")
    assert run.plan.offload == "none" and not run.fits
    told = too_little(run, released_sizes(), CLIP, card(24), {})
    assert (
        told.startswith("By the memory plan high this clip is expected to need")
        and "use --memory auto, or free" in told
    )


def test_a_named_plan_that_main_memory_is_too_small_for_is_not_made_slower_on_the_device() -> None:
    run = resolve_plan(released_sizes(), CLIP, card(24, host=12), "low")
    assert not run.fits and run.peaks.device_peak < card(24).usable
    assert (run.plan.batch_passes, run.plan.vae_tiling, run.plan.reuse_conditions) == ("on", False, "on")


def test_each_figure_stands_apart_from_its_name() -> None:
    machine = card(24)
    lines = describe_run(resolve_plan(released_sizes(), CLIP, machine), machine, released_sizes())
    assert all(re.match(r"  \S.*\S  ", line) for line in lines), "\n".join(lines)


def test_without_an_accelerator_nothing_waits_elsewhere() -> None:
    machine = Machine("cpu", 8 * GIB, 8 * GIB)
    for memory in MEMORY:
        run = resolve_plan(released_sizes(), CLIP, machine, memory, {"dtype": "float32"})
        assert run.plan.offload == "none" and run.peaks.device_peak == 0 and not run.fits
    with pytest.raises(SettingsError, match=r"offload is 'groups', but on cpu all parts compute where they wait"):
        resolve_plan(released_sizes(), CLIP, machine, overrides={"offload": "groups"})


def test_names_that_do_not_exist_are_told_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"There is no memory plan 'minimum'; did you mean 'minimal'"):
        resolve_plan(released_sizes(), CLIP, card(24), "minimum")
    with pytest.raises(SettingsError, match="quantize must be none or fp8, but 'fp4' was given"):
        resolve_plan(released_sizes(), CLIP, card(24), overrides={"quantize": "fp4"})
