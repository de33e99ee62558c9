"""Where a network computes: with its weights, or where accelerate's hooks bring them."""

from __future__ import annotations

import torch
from accelerate import cpu_offload
from torch import nn

from fantasytalking.system.execution_device import execution_device


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
