"""Where a network computes: with its weights, or where accelerate's hooks bring them."""

from __future__ import annotations

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading
from torch import nn

from fantasytalking.system.execution_device import execution_device
from tests.devices.pretended import pretended_device


def test_a_network_computes_where_its_weights_are() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    assert execution_device(network) == torch.device("cpu")
    assert execution_device(network.to("meta")) == torch.device("meta")
    assert execution_device(nn.GELU()) == torch.device("cpu")


def test_weights_that_wait_elsewhere_between_calls_do_not_matter() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    cpu_offload(network, torch.device("cpu"))
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert execution_device(network) == torch.device("cpu")


def test_hooks_that_bring_weights_say_where() -> None:
    """The weights say the opposite until the network is called, which is when its inputs must be there already."""
    with pretended_device() as device:
        for bring in (
            lambda network: cpu_offload_with_hook(network, device),
            lambda network: apply_group_offloading(network, device, offload_type="leaf_level"),
        ):
            network = nn.Sequential(nn.Linear(2, 2), nn.GELU())
            bring(network)
            assert {p.device.type for p in network.parameters()} == {"cpu"}
            assert execution_device(network) == device
