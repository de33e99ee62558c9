"""FSDP2: weights, gradients and optimiser state sharded across processes, block by block."""

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
    """Mixed precision of sharded modules: weights are gathered in the compute precision, gradients are summed in float32.

    Inputs are not cast: bfloat16 is too coarse for the timestep, and autocast casts the inputs of layers anyway.
    """
    if mixed_precision == "bf16":
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    return MixedPrecisionPolicy(cast_forward_inputs=False)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Transformer blocks of a model; empty for models without a list `blocks`."""
    blocks = getattr(model, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.ModuleList) else []


def shard_in_place(model: nn.Module, mixed_precision: str) -> None:
    """Shard each block, then the rest, across all processes of the default group."""
    # The velocity is a view of the last layer's output, but nothing modifies it in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    policy = precision_policy(mixed_precision)
    for block in blocks_of(model):
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def accelerator_plugin(mixed_precision: str) -> FullyShardedDataParallelPlugin:
    """Plugin with which accelerate shards as `shard_in_place` does."""
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
    """This process's part of a tensor, sharing its memory; the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """Gather the whole tensor; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_copy(tensor: Tensor) -> Tensor:
    """Gather the whole tensor into its own memory; every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def local_offset(tensor: Tensor) -> tuple[int, ...]:
    """Offset of this process's part in the whole tensor, one number per axis."""
    if not isinstance(tensor, DTensor):
        return (0,) * tensor.ndim
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(offset)


def like(reference: Tensor, part: Tensor) -> Tensor:
    """Make a tensor sharded like `reference` from its local part."""
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
