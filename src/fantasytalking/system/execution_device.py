"""Where a network computes, which is not always where its weights are."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["execution_device"]


def execution_device(network: nn.Module) -> torch.device:
    """The device that a network's inputs belong on.

    That is the device of its weights. Under accelerate's offload by layers (`enable_sequential_cpu_offload` of diffusers) the weights are
    on the meta device between calls; its hooks on the layers say where each of them will be.
    """
    found = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    if found.type != "meta":
        return found
    hooks = (getattr(module, "_hf_hook", None) for module in network.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    return next((torch.device(device) for device in devices if device is not None), found)
