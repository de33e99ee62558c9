"""Dealing of a global batch to processes and forward passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Part", "shares"]


@dataclass(frozen=True)
class Part:
    """Share of a global batch that one forward pass sees.

    Attributes:
        batch: made by the objective.
        weight: factor of the sum of its losses; 0 for a filler that keeps the processes in step.
    """

    batch: Any
    weight: float


def shares(count: int, processes: int, accumulate: int, rank: int) -> list[list[int]]:
    """Rows of a global batch that one process takes, one list a forward pass.

    Every process gets equally many lists, some of them empty where there are fewer rows than passes; passes that nobody needs are left
    out.
    """
    pieces = processes * accumulate

    def rows(process: int, number: int) -> list[int]:
        i = process * accumulate + number
        return list(range(count * i // pieces, count * (i + 1) // pieces))

    needed = [n for n in range(accumulate) if any(rows(process, n) for process in range(processes))]
    return [rows(rank, n) for n in needed]
