"""FSDP2: weights, gradients and optimiser state spread over the processes, block by block."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

if TYPE_CHECKING:
    from accelerate import FullyShardedDataParallelPlugin


def precision_policy(mixed_precision: str) -> MixedPrecisionPolicy:
    """Weights are gathered in the precision of the computation; gradients are summed in float32.

    Inputs are left alone: the timestep has no room in bfloat16, and autocast casts what layers multiply.
    """
    if mixed_precision == "bf16":
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    return MixedPrecisionPolicy(cast_forward_inputs=False)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model; none for models without a list `blocks`."""
    blocks = getattr(model, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


def shard_in_place(model: nn.Module, mixed_precision: str) -> None:
    """Shard each block, then the rest, over all processes of the default group."""
    # the velocity is a view of the last layer's output, and nobody changes it in place
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    policy = precision_policy(mixed_precision)
    for block in blocks_of(model):
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def accelerator_plugin(mixed_precision: str) -> FullyShardedDataParallelPlugin:
    """The same wrapping through accelerate."""
    from accelerate import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["WanTransformerBlock"],
        reshard_after_forward=True,
        mixed_precision_policy=precision_policy(mixed_precision),
    )


def reshard(model: nn.Module) -> None:
    """Free the gathered weights of all sharded modules."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; the tensor itself where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """The whole tensor; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_copy(tensor: Tensor) -> Tensor:
    """The whole tensor in memory of its own; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def local_offset(tensor: Tensor) -> tuple[int, ...]:
    """Offset of this process's part in the whole tensor, one number per axis."""
    if not isinstance(tensor, DTensor):
        return (0,) * tensor.ndim
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(offset)


def like(reference: Tensor, part: Tensor) -> Tensor:
    """A tensor whose local part is `part`, spread as `reference` is."""
    if not isinstance(reference, DTensor):
        return part
    return DTensor.from_local(
        part,
        reference.device_mesh,
        reference.placements,
        run_check=False,
        shape=reference.shape,
        stride=reference.stride(),
    )
