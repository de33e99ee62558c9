"""The released code's numbers on a device that is not the CPU, in both types."""

from __future__ import annotations

import pytest
import torch

from tests.devices.parity_checks import TOLERANCES, distances


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_released_codes_numbers_are_met_on_the_device(dtype: torch.dtype, device: torch.device) -> None:
    found = distances(device, dtype)
    assert {name: distance for name, distance in found.items() if distance > TOLERANCES[dtype]} == {}
