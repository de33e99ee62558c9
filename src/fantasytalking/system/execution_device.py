"""Where a network computes, which is not always where its weights are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["execution_device", "move_tensors"]


def execution_device(network: nn.Module) -> torch.device:
    """The device that a network's inputs belong on.

    That is the device of its weights, unless hooks bring these to another device for each call: accelerate's (offload of whole models or
    of layers, device maps), or those of diffusers' group offloading. Between calls such weights wait on the CPU or on disk, and may be
    without values, on the meta device.
    """
    for module in network.modules():
        # a module that is asked for an attribute that it lacks looks through its weights first
        own = vars(module)
        for hook in _hooks(own) if "_hf_hook" in own or "_diffusers_hook" in own else ():
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    # one after the other, as to collect all of them takes longer than the paint of a mouth
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def move_tensors(record: Any, device: torch.device | str | int, non_blocking: bool = False) -> dict[str, Any]:
    """Fields of a dataclass on a device, as far as they are tensors, records that have a `to` themselves, or tuples: name -> value."""

    def move(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(move, value))
        return value.to(device=device, non_blocking=non_blocking) if hasattr(value, "to") else value

    return {name: move(getattr(record, name)) for name in record.__dataclass_fields__}


def _hooks(own: Mapping[str, Any]) -> Iterator[Any]:
    """Hooks of a module that know where it computes, of its attributes by name."""
    outer = own.get("_hf_hook")
    yield from getattr(outer, "hooks", (outer,))  # several hooks of accelerate are one that holds them
    registry = own.get("_diffusers_hook")
    for hook in getattr(registry, "hooks", {}).values():
        group = getattr(hook, "group", None)
        if group is not None:
            yield _Onload(group.onload_device)


class _Onload:
    """A hook of diffusers under the name that accelerate gives the device."""

    def __init__(self, execution_device: torch.device) -> None:
        self.execution_device = execution_device
