"""Piecewise linear map through knots, with which the mesh codec shows openings of the mouth as large as people's."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["through_knots"]


def through_knots(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Map values along the line through knots; beyond the outermost ones its slope is 1.

    Args:
        values: Values of any shape.
        x: Rising places of the knots [N].
        y: Their values [N].

    Returns:
        As `values`.
    """
    place = torch.searchsorted(x.contiguous(), values.contiguous()).clamp(1, len(x) - 1)
    x0, x1, y0, y1 = x[place - 1], x[place], y[place - 1], y[place]
    inside = y0 + (values.clamp(x[0], x[-1]) - x0) * (y1 - y0) / (x1 - x0).clamp_min(1e-6)
    result: Tensor = inside + (values - values.clamp(x[0], x[-1]))
    return result
