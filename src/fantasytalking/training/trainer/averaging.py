"""Exponential moving average of the weights, which is what is validated and released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fantasytalking.training.trainer.sharding import like, local


def start_average(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy the trained parameters; sharded parameters give sharded copies."""
    return {name: like(value.detach(), local(value.detach()).clone()) for name, value in values.items()}


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], values: Mapping[str, Tensor], step: int, decay: float) -> None:
    """Update in place: average <- d average + (1 - d) values, with d = min(decay, (1 + step) / (10 + step)), small at first."""
    decay = min(decay, (1 + step) / (10 + step))
    into = [local(value) for value in average.values()]
    torch._foreach_lerp_(into, [local(values[name].detach()) for name in average], 1 - decay)


@contextmanager
def exchanged(average: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Swap the parameters with their averages for the duration of the block; sharded tensors stay sharded."""
    _exchange(average, values)
    try:
        yield
    finally:
        _exchange(average, values)


@torch.no_grad()
def _exchange(average: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in average.items():
        a, b = local(value), local(values[name].detach())
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)
