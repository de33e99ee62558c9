"""Split of a global batch over processes and forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Part", "shares"]


@dataclass(frozen=True)
class Part:
    """Share of a global batch for one forward pass.

    Attributes:
        batch: Batch prepared by the objective.
        weight: Factor of the sum of its losses; 0 for a filler batch that keeps the processes in step.
    """

    batch: Any
    weight: float


def shares(count: int, processes: int, accumulate: int, rank: int) -> list[list[int]]:
    """Rows of a global batch for one process, as one list per forward pass.

    Every process gets the same number of lists, some of them empty if there are fewer rows than passes; passes that no process needs
    are omitted.
    """
    pieces = processes * accumulate

    def rows(process: int, number: int) -> list[int]:
        i = process * accumulate + number
        return list(range(count * i // pieces, count * (i + 1) // pieces))

    needed = [n for n in range(accumulate) if any(rows(process, n) for process in range(processes))]
    return [rows(rank, n) for n in needed]
