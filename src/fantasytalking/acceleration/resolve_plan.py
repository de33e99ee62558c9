"""From a machine, a model's sizes and a clip to a memory plan: the fastest one that is expected to fit."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fantasytalking.acceleration.expected_peaks import Peaks, expected_peaks
from fantasytalking.acceleration.kept_memory import UNBATCHED
from fantasytalking.acceleration.memory_plan import GIB, Clip, MemoryPlan
from fantasytalking.acceleration.part_sizes import ModelSizes
from fantasytalking.acceleration.ways_out import ways_out
from fantasytalking.errors import OutOfMemory, SettingsError
from fantasytalking.system.machine import free_memory, host_memory
from fantasytalking.system.records import nearest_name

__all__ = [
    "COLUMN",
    "MEMORY",
    "Machine",
    "PlannedRun",
    "as_record",
    "describe_run",
    "next_plan",
    "resolve_plan",
    "too_little",
]

PLANS: dict[str, dict[str, Any]] = {
    "high": {"offload": "none"},
    "balanced": {"offload": "model"},
    "low": {"offload": "groups"},
    "minimal": {"offload": "disk", "batch_passes": "off", "vae_tiling": True, "reuse_conditions": "off"},
}
"""Name -> choices, from the fastest to the one that needs least; what a plan leaves open is chosen by memory."""
MEMORY = ("auto", *PLANS)
"""Names that a user may give."""
USABLE, RESERVED = 0.92, GIB // 2
"""Share of a device's memory that a plan may take, and what is left for the context."""
USABLE_HOST = 0.95
COLUMN = 33
"""Characters of the first column of a plan in text."""
_SPEED_FIRST = tuple(
    {"vae_tiling": tiling, "batch_passes": batch, "reuse_conditions": reuse}
    for tiling, batch, reuse in itertools.product((False, True), ("on", "off"), ("on", "off"))
)


@dataclass(frozen=True)
class Machine:
    """The memory that a plan is for.

    Attributes:
        kind: Type of the device: cuda, cpu, mps.
        device_bytes: Free memory of the device; with a CPU or a device that shares it, main memory.
        host_bytes: Free main memory.
    """

    kind: str
    device_bytes: int
    host_bytes: int

    @classmethod
    def of(cls, device: torch.device, device_gib: float | None = None, host_gib: float | None = None) -> Machine:
        """This machine as it is now, or with other sizes, in GiB."""
        host = host_memory() if host_gib is None else int(host_gib * GIB)
        if device_gib is not None:
            return cls("cuda", int(device_gib * GIB), host)
        own = int(free_memory(device)) if device.type == "cuda" else host
        return cls(device.type, own, host)

    @property
    def usable(self) -> int:
        """Bytes that a plan may take on the device."""
        return int(USABLE * self.device_bytes) - RESERVED


@dataclass(frozen=True)
class PlannedRun:
    """A plan for a clip on a machine.

    Attributes:
        plan: The choices.
        peaks: Memory that they are expected to take.
        fits: Whether that is there.
    """

    plan: MemoryPlan
    peaks: Peaks
    fits: bool


def resolve_plan(
    sizes: ModelSizes, clip: Clip, machine: Machine, memory: str = "auto", overrides: Mapping[str, Any] | None = None
) -> PlannedRun:
    """The fastest plan that is expected to fit.

    Args:
        sizes: Sizes of the model's parts.
        clip: What is generated.
        machine: Memory that there is.
        memory: Name of a plan, which is then taken even if it is not expected to fit, or `auto`.
        overrides: Fields of `MemoryPlan` that are given.

    Raises:
        SettingsError: There is no such plan, or a choice that this device cannot follow.
        OutOfMemory: No plan fits, with `auto`.
    """
    if memory not in MEMORY:
        raise SettingsError(f"There is no memory plan {memory!r}; {nearest_name(memory, MEMORY, 'plans')}")
    given = dict(overrides or {})
    if machine.kind != "cuda" and given.get("offload", "none") != "none":
        raise SettingsError(
            f"offload is {given['offload']!r}, but on {machine.kind} all parts compute where they wait; leave it out."
        )
    names = tuple(PLANS) if memory == "auto" else (memory,)
    runs = [
        run
        for choices in _with_less_cache(given)
        for name in names
        for run in _runs(name, sizes, clip, machine, choices, is_named=memory != "auto")
    ]
    fitting = next((run for run in runs if run.fits), None)
    if fitting is not None:
        return fitting
    least = min(reversed(runs) if memory == "auto" else runs, key=lambda run: _missing(run, machine))
    # Only there is what a plan needs known well enough to refuse it.
    if memory == "auto" and machine.kind == "cuda":
        raise OutOfMemory(too_little(least, sizes, clip, machine, given))
    return least


def _missing(run: PlannedRun, machine: Machine) -> tuple[int, int]:
    """Bytes that a plan lacks on the device and of main memory; by these, no choice is made that does not help where memory is short."""
    device = run.peaks.device_peak - machine.usable if machine.kind == "cuda" else 0
    return max(0, device), max(0, run.peaks.host - int(USABLE_HOST * machine.host_bytes))


def _with_less_cache(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is given, and the same without the step cache, which only makes a run faster."""
    return [dict(given)] if given.get("cache", "none") == "none" else [dict(given), {**given, "cache": "none"}]


def next_plan(
    sizes: ModelSizes, clip: Clip, machine: Machine, plan: MemoryPlan, overrides: Mapping[str, Any] | None = None
) -> PlannedRun | None:
    """The next plan after one that ran out of memory: the first below it that takes less; None where there is none.

    Arguments are those of `resolve_plan`.
    """

    def taken(peaks: Peaks) -> int:
        return peaks.device_peak if machine.kind == "cuda" else peaks.host

    limit = taken(expected_peaks(sizes, plan, clip, machine.kind))
    names = list(PLANS)
    # A cache that the plan before had to leave out stays out.
    given = {**(overrides or {}), "cache": plan.cache}
    for choices in _with_less_cache(given):
        for name in names[names.index(plan.name) :]:
            for run in _runs(name, sizes, clip, machine, choices):
                if taken(run.peaks) < limit:
                    return run
    return None


def _runs(
    name: str,
    sizes: ModelSizes,
    clip: Clip,
    machine: Machine,
    given: Mapping[str, Any],
    is_named: bool = False,
) -> Iterator[PlannedRun]:
    """A plan by name, from the fastest way to follow it to the smallest.

    Whoever names minimal wants what takes least. Where it is come to for want of main memory, the device may have room for all passes at
    once, and then each block is read from its file once a step and not once a pass.
    """
    is_open = machine.kind == "cuda" and not is_named
    named = {key: value for key, value in PLANS[name].items() if not (is_open and key in _SPEED_FIRST[0])}
    own = {"dtype": _usual_dtype(name, sizes, machine), "name": name, **named}
    fixed = {**own, **({} if machine.kind == "cuda" else {"offload": "none"}), **given}
    if fixed.get("cache") in UNBATCHED:
        fixed["batch_passes"] = "off"
    seen: set[MemoryPlan] = set()
    for choices in _SPEED_FIRST:
        plan = MemoryPlan(**{**choices, **fixed})
        if plan in seen:
            continue
        seen.add(plan)
        peaks = expected_peaks(sizes, plan, clip, machine.kind)
        enough = peaks.device_peak <= machine.usable if machine.kind == "cuda" else True
        yield PlannedRun(plan, peaks, enough and peaks.host <= USABLE_HOST * machine.host_bytes)


def _usual_dtype(name: str, sizes: ModelSizes, machine: Machine) -> str:
    """Type that a plan computes in where none is given.

    bfloat16 on an accelerator. On a CPU float32, and under the plan that takes least the type of the files, which then need no copy.
    """
    if machine.kind != "cpu" or (name == "minimal" and sizes.transformer.mapped_in(torch.bfloat16)):
        return "bfloat16"
    return "float32"


def too_little(least: PlannedRun, sizes: ModelSizes, clip: Clip, machine: Machine, given: Mapping[str, Any]) -> str:
    """What is missing, and what would help: a sentence.

    Args:
        least: The plan that needs least.
        sizes: Sizes of the model's parts.
        clip: What is generated.
        machine: Memory that there is.
        given: Fields of `MemoryPlan` that are given.
    """

    def fits(other: Clip, choices: Mapping[str, Any]) -> bool:
        return any(
            run.fits for name in PLANS for run in _runs(name, sizes, other, machine, {**choices, "cache": "none"})
        )

    phase = max(least.peaks.device, key=lambda name: least.peaks.device[name])
    on_device = machine.kind == "cuda" and least.peaks.device_peak > machine.usable
    if on_device:
        needed, there = least.peaks.device_peak, machine.usable
        where, free = f"on the device ({phase})", "free the device"
    else:
        needed, there = least.peaks.host, int(USABLE_HOST * machine.host_bytes)
        where, free = "of main memory", "close other programs"
    ways = ways_out(clip, given, fits)
    if not on_device and not sizes.transformer.mapped_in(least.plan.torch_dtype):
        ways.append(
            f"store the transformer in the type in which it computes (fantasytalking convert --dtype {least.plan.dtype}), so that it can "
            "stay in its files"
        )
    if not ways:
        enough = math.ceil((needed / USABLE + RESERVED if on_device else needed / USABLE_HOST) / GIB)
        free = f"no other option is enough, so use a machine with {enough} GiB free for this"
    return (
        f"By the memory plan {least.plan.name} this clip is expected to need {needed / GIB:.1f} GiB {where}, but "
        f"{max(0, there) / GIB:.1f} GiB of it can be used; {', or '.join([*ways, free])}."
    )


def describe_run(run: PlannedRun, machine: Machine, sizes: ModelSizes) -> list[str]:
    """The plan in lines of text: choices, then expected memory."""
    choices = run.plan.describe()
    if "text_encoder" not in sizes.parts:
        del choices["text encoder"]
    lines = [f"  {what:<{COLUMN}}{choice}" for what, choice in choices.items()]
    if machine.kind == "cuda":
        lines += [
            f"  {'device memory: ' + phase:<{COLUMN}}{size / GIB:.1f} GiB" for phase, size in run.peaks.device.items()
        ]
        lines.append(
            f"  {'device memory: peak':<{COLUMN}}{run.peaks.device_peak / GIB:.1f} GiB of {machine.usable / GIB:.1f} usable"
        )
    lines.append(
        f"  {'main memory: peak':<{COLUMN}}{run.peaks.host / GIB:.1f} GiB of {machine.host_bytes / GIB:.1f} free"
    )
    return lines


def as_record(run: PlannedRun) -> dict[str, Any]:
    """The plan as plain values, for JSON."""
    return {
        **dataclasses.asdict(run.plan),
        "device_gib": {phase: round(size / GIB, 2) for phase, size in run.peaks.device.items()},
        "host_gib": round(run.peaks.host / GIB, 2),
        "fits": run.fits,
    }
