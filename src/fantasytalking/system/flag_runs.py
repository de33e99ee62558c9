"""Runs of flags: where something holds without a break, frame after frame.

Dimensions: F frames, n runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["flag_runs", "longest_flag_run"]


def flag_runs(flags: ArrayLike) -> NDArray[np.intp]:
    """First and one past the last index of each run of true flags [F], in order: [n, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return edges.reshape(-1, 2)


def longest_flag_run(flags: ArrayLike) -> slice:
    """Longest run of true flags [F], the first of several; empty if there is none."""
    runs = flag_runs(flags)
    if len(runs) == 0:
        return slice(0, 0)
    start, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    return slice(int(start), int(stop))
