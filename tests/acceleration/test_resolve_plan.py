"""From memory to a plan, for the released shapes: what is chosen fits, and whoever gives less gets a plan that takes less."""

from __future__ import annotations

from typing import Any

import pytest

from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan, expected_peaks
from fantasytalking.acceleration.resolve_plan import MEMORY, Machine, next_plan, resolve_plan
from fantasytalking.errors import OutOfMemory, SettingsError
from tests.acceleration.released_shapes import released_sizes

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


def test_where_nothing_fits_the_sentence_says_what_is_missing_and_what_helps() -> None:
    with pytest.raises(OutOfMemory, match=r"minimal .* GiB on the device \(sampling\).*2\.\d GiB.*--longest-side"):
        resolve_plan(released_sizes(), CLIP, card(3))
    with pytest.raises(OutOfMemory, match=r"main memory.*convert --dtype bfloat16"):
        resolve_plan(released_sizes(), CLIP, card(24, host=4))


def test_a_named_plan_is_taken_even_where_it_is_not_expected_to_fit() -> None:
    run = resolve_plan(released_sizes(), CLIP, card(24), "high")
    assert run.plan.offload == "none" and not run.fits


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
