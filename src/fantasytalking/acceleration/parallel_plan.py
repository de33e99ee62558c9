"""How several processes, each with a device of its own, share the work on one video: guidance passes, tokens, or both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from fantasytalking.acceleration.memory_plan import Clip
from fantasytalking.acceleration.resolve_plan import Machine
from fantasytalking.errors import SettingsError
from fantasytalking.transformer.context_parallel import check_heads

__all__ = ["MOST_PASSES", "ParallelPlan", "automatic_plan", "parse_parallel"]

MOST_PASSES = 3
"""Guidance passes of a step at most."""


@dataclass(frozen=True)
class ParallelPlan:
    """A division of the work; the number of processes is the product of both.

    Attributes:
        guidance: Processes, or groups of them, that share the guidance passes of a step, 1 to 3.
        ulysses: Processes that share the tokens of a pass.
    """

    guidance: int = 1
    ulysses: int = 1

    @property
    def processes(self) -> int:
        """Number of processes."""
        return self.guidance * self.ulysses

    def cost(self, passes: Sequence[int]) -> float:
        """Time of a run relative to that of one pass on one device, without what the exchange between devices takes.

        Args:
            passes: Guidance passes of each step.
        """
        return sum(-(-count // self.guidance) for count in passes) / (self.ulysses * len(passes))

    def share_of(self, clip: Clip, machine: Machine, on_this_machine: int) -> tuple[Clip, Machine]:
        """What one of the processes has to do, and the memory that it has for it: of main memory, an equal share.

        Args:
            clip: The clip that they make together.
            machine: A device, and the main memory of the machine.
            on_this_machine: Processes that share that main memory.
        """
        host = machine.host_bytes // on_this_machine
        own = machine.device_bytes if machine.kind == "cuda" else machine.device_bytes // on_this_machine
        passes = -(-clip.passes // self.guidance)
        return dataclasses.replace(clip, passes=passes), dataclasses.replace(machine, device_bytes=own, host_bytes=host)

    def __str__(self) -> str:
        return f"guidance={self.guidance},ulysses={self.ulysses}"


def parse_parallel(text: str) -> ParallelPlan | None:
    """The plan that a text names, such as `guidance=2,ulysses=2`; None for `auto`.

    Raises:
        SettingsError: It names none.
    """
    if text == "auto":
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in ("guidance", "ulysses") or name in found or not number.isdecimal() or int(number) < 1:
            raise SettingsError(
                f"The processes of a video are given as auto, guidance=2, ulysses=4 or guidance=2,ulysses=2, but {text!r} was given."
            )
        found[name] = int(number)
    plan = ParallelPlan(**found)
    if plan.guidance > MOST_PASSES:
        raise SettingsError(
            f"A step has {MOST_PASSES} guidance passes at most, but guidance={plan.guidance} was given; share the tokens as well, "
            "such as guidance=2,ulysses=2."
        )
    return plan


def automatic_plan(processes: int, passes: Sequence[int], heads: int) -> ParallelPlan:
    """The fastest division of the work between some processes; of equal ones the one that exchanges less.

    Args:
        processes: Number of processes, of which all are used.
        passes: Guidance passes of each step.
        heads: Attention heads of the model, which Ulysses shares.

    Raises:
        SettingsError: The model cannot be shared by so many.
    """
    found = []
    for guidance in range(min(MOST_PASSES, max(passes)), 0, -1):
        if processes % guidance == 0 and _shareable(heads, processes // guidance):
            found.append(ParallelPlan(guidance, processes // guidance))
    if not found:
        check_heads(heads, processes)
        return ParallelPlan(1, processes)
    return min(found, key=lambda plan: plan.cost(passes))


def _shareable(heads: int, degree: int) -> bool:
    try:
        check_heads(heads, degree)
    except SettingsError:
        return False
    return True
