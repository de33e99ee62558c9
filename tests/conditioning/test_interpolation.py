"""Linear interpolation in time: values halfway are means, and the ends repeat."""

from __future__ import annotations

import pytest
import torch

from fantasytalking.conditioning.interpolation import rows_at


def test_positions_between_rows_are_blended_and_the_ends_repeat() -> None:
    rows = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 5.0]])
    found = rows_at(rows, torch.tensor([-3.0, 0.0, 0.5, 1.75, 2.0, 9.0], dtype=torch.float64))
    assert found.tolist() == [[0, 1], [0, 1], [1, 1], [3.5, 4], [4, 5], [4, 5]]


@pytest.mark.parametrize("shape", [(1,), (5, 3), (5, 2, 4)])
def test_rows_of_any_shape_keep_their_type(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(rows_at(rows, torch.arange(shape[0], dtype=torch.float64)), rows)
