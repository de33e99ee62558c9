"""What would help a clip that fits no plan: options that are tried one by one, the largest size and the greatest length that fit."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from fantasytalking.acceleration.memory_plan import Clip
from fantasytalking.geometry import PATCH, Strides, fit_size, released_frame_count

__all__ = ["largest_side", "longest_seconds", "ways_out"]

Fits = Callable[[Clip, Mapping[str, Any]], bool]
"""Whether a clip is expected to fit with some fields of a plan given."""

_SMALLEST_SIDE, _SHORTEST_SECONDS = 64, 0.2
"""The least that the settings take."""
_GIVEN = {
    "offload": "--offload",
    "batch_passes": "--batch-passes",
    "vae_tiling": "--vae-tiling",
    "reuse_conditions": "--reuse-conditions",
    "dtype": "--dtype",
}
"""Field of a plan -> the option by which a user gives it."""


def ways_out(clip: Clip, given: Mapping[str, Any], fits: Fits) -> list[str]:
    """Each single change of a command that makes its clip fit, as "do without --offload" or "use --longest-side 512"; possibly none.

    Args:
        clip: The clip, which does not fit by the plan that was asked for.
        given: Fields of a plan that the user gave.
        fits: Whether a clip fits by any plan.
    """
    if fits(clip, given):
        return ["use --memory auto"]
    found = []
    for name, option in _GIVEN.items():
        if name in given and fits(clip, {key: value for key, value in given.items() if key != name}):
            found.append(f"do without {option}")
    if given.get("quantize", "none") == "none" and fits(clip, {**given, "quantize": "fp8"}):
        found.append("use --quantize fp8")
    if (side := largest_side(clip, lambda smaller: fits(smaller, given))) is not None:
        found.append(f"use --longest-side {side}")
    if (seconds := longest_seconds(clip, lambda shorter: fits(shorter, given))) is not None:
        found.append(f"use --max-seconds {seconds:g}")
    return found


def largest_side(clip: Clip, fits: Callable[[Clip], bool]) -> int | None:
    """The greatest `longest_side` below the clip's with which it fits; None where the smallest does not."""
    step = Strides().width * PATCH[2]

    def scaled(side: int) -> Clip:
        width, height = fit_size(clip.width, clip.height, side)
        return dataclasses.replace(clip, width=width, height=height)

    sides = range(_SMALLEST_SIDE, max(clip.width, clip.height), step)
    count = bisect_left(range(len(sides)), True, key=lambda index: not fits(scaled(sides[index])))
    return sides[count - 1] if count else None


def longest_seconds(clip: Clip, fits: Callable[[Clip], bool]) -> float | None:
    """The greatest `max_seconds`, to a tenth, with which the clip has fewer frames and fits; None where the shortest does not."""
    # A clip of F frames holds at most (F - 1) / fps seconds, see `released_frame_count`.
    tenths = range(round(10 * _SHORTEST_SECONDS), math.ceil(10 * (clip.frames - 1) / clip.fps))

    def cut(index: int) -> Clip:
        return dataclasses.replace(clip, frames=released_frame_count(tenths[index] / 10, clip.fps, clip.frames))

    count = bisect_left(range(len(tenths)), True, key=lambda index: not fits(cut(index)))
    return tenths[count - 1] / 10 if count else None
