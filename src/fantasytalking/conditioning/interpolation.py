"""Linear interpolation in time, for speech features, mouth shapes and crops alike."""

from __future__ import annotations

import torch

__all__ = ["rows_at"]


def rows_at(rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows at fractional positions, linear between neighbours; the ends repeat.

    Args:
        rows: Values [n, ...] of a floating-point type, at least one.
        positions: Positions float64 [m] on the CPU, where row i is at i. Some accelerators have no float64, which long clips need here.

    Returns:
        Values [m, ...], same type and device as `rows`.
    """
    count = rows.shape[0]
    places = positions.clamp(0, count - 1)
    left = places.floor().long()
    right = (left + 1).clamp(max=count - 1)
    share = (places - left).to(rows).reshape(-1, *[1] * (rows.ndim - 1))
    return rows[left.to(rows.device)] * (1 - share) + rows[right.to(rows.device)] * share
