"""Generation on a device that is not the CPU: a tensor that is left behind is an error."""

from __future__ import annotations

import pytest
import torch

from tests.devices.generation_checks import CASES, CHECKS, generate_as_on_the_cpu


@pytest.mark.parametrize("name", CASES)
def test_generation_on_the_device_gives_the_frames_of_the_cpu(name: str, device: torch.device) -> None:
    generate_as_on_the_cpu(device, name)


@pytest.mark.parametrize("name", CHECKS)
def test_on_the_device_as_on_the_cpu(name: str, device: torch.device) -> None:
    CHECKS[name](device)
