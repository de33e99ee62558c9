"""Runs of flags: where something holds without a break, frame after frame.

Dimensions: F frames, n runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["flag_runs"]


def flag_runs(flags: ArrayLike) -> NDArray[np.intp]:
    """First and one past the last index of each run of true flags [F], in order: [n, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return edges.reshape(-1, 2)
