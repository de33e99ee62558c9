"""The evaluation's networks on a device that is not the CPU: a tensor that is left behind is an error."""

from __future__ import annotations

import pytest
import torch

from tests.devices.evaluation_checks import NETWORKS, measure_as_on_the_cpu


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_on_the_device_gives_the_numbers_of_the_cpu(network: str, device: torch.device) -> None:
    measure_as_on_the_cpu(device, network)
