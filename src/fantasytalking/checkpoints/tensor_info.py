"""What the header of a weights file says of a tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["TensorInfo"]


class TensorInfo(NamedTuple):
    """Shape and type of a stored tensor, from the header of its file.

    Attributes:
        shape: Shape of the values.
        dtype: Type of the values when they are read.
        quantised: Name of the block format in which they are stored, such as Q4_K; None where they are stored in `dtype`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    quantised: str | None = None

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize
