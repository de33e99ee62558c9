"""The Q-Former that turns a face embedding into tokens."""

from __future__ import annotations

from typing import Any

import torch

from fantasytalking.conditioning.identity_qformer import IdentityQFormer


def test_an_embedding_becomes_tokens_that_depend_on_it() -> None:
    torch.manual_seed(0)
    qformer = IdentityQFormer(10, 24, num_tokens=5)
    faces = torch.nn.functional.normalize(torch.randn(3, 10), dim=-1)
    tokens = qformer(faces)
    assert tokens.shape == (3, 5, 24)
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(qformer(faces[1:2]), tokens[1:2])


def heads_of(qformer: Any) -> int:
    return qformer.layers[0].self_attention.heads


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    qformer = IdentityQFormer(10, 128, num_tokens=2, num_layers=1)
    qformer(torch.randn(2, 10)).pow(3).sum().backward()
    assert [name for name, p in qformer.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert heads_of(qformer) == 2


def test_a_width_that_64_does_not_divide_still_gets_whole_heads() -> None:
    assert heads_of(IdentityQFormer(4, 150, 2)) == 2
    assert heads_of(IdentityQFormer(4, 149, 2)) == 1
