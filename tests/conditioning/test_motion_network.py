"""The motion intensity network."""

from __future__ import annotations

import torch

from fantasytalking.conditioning.motion_network import MotionNetwork


def test_a_new_network_adds_nothing() -> None:
    assert not MotionNetwork(24)(torch.rand(3, 2)).any()


def test_a_trained_network_tells_face_and_body_and_their_strength_apart() -> None:
    torch.manual_seed(0)
    network = MotionNetwork(24, hidden_dim=16)
    torch.nn.init.normal_(network.out.weight)
    embedded = network(torch.tensor([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]))
    assert embedded.shape == (4, 24)
    assert torch.cdist(embedded, embedded).fill_diagonal_(1).min() > 1e-3


def test_every_weight_gets_a_gradient_once_the_last_layer_has_moved() -> None:
    torch.manual_seed(0)
    network = MotionNetwork(8, hidden_dim=16)
    torch.nn.init.normal_(network.out.weight)
    network(torch.rand(4, 2)).pow(2).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
