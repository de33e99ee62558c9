"""Devices, processes, sharding, precision and gradient steps through accelerate, which no other file uses directly."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from fantasytalking.errors import MissingDependencyError, ResourceError, SettingsError
from fantasytalking.training.trainer.sharding import (
    accelerator_plugin,
    full,
    local,
    reshard,
    shard_in_place,
    whole_copy,
)

OPTIMIZERS = ("adamw", "adamw-8bit")
BETAS = (0.9, 0.99)


@dataclass
class Engine:
    """A model and its optimiser on the devices and processes of a run.

    Attributes:
        accelerator: The accelerator of accelerate.
        model: The model, wrapped for several processes.
        optimizer: The optimiser, wrapped by accelerate.
        clip_norm: Maximum gradient norm.
        sharded: Whether weights, gradients and optimiser state are sharded across processes (FSDP2).
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    clip_norm: float
    sharded: bool = False

    @classmethod
    def create(
        cls,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float,
        clip_norm: float,
        mixed_precision: str = "no",
        *,
        fsdp: bool = False,
        optimizer: str = "adamw",
    ) -> Engine:
        """Set up AdamW (betas 0.9 and 0.99, no decay on vectors) under accelerate.

        Args:
            model: Model whose parameters that require gradients are trained in place; the weights must be equal in all processes.
            learning_rate: Learning rate until `set_learning_rate` is called.
            weight_decay: Weight decay of matrices and kernels.
            clip_norm: Maximum gradient norm.
            mixed_precision: "no" or "bf16"; with bf16 the trained weights stay in float32.
            fsdp: Whether to shard across processes (FSDP2), each of the model's `blocks` and the rest separately; no effect in a single
                process.
            optimizer: "adamw" (fused) or "adamw-8bit" (bitsandbytes, one byte per state).

        Raises:
            SettingsError: The optimiser is unknown, or 8-bit together with sharding, or no parameter requires a gradient.
            MissingDependencyError: The 8-bit optimiser is requested without bitsandbytes.
        """
        if optimizer not in OPTIMIZERS:
            raise SettingsError(f"There is no optimiser '{optimizer}'; the optimisers are {', '.join(OPTIMIZERS)}.")
        if not any(p.requires_grad for p in model.parameters()):
            raise SettingsError("No weight of the model requires a gradient, so there is nothing to train.")
        if mixed_precision == "bf16":
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        accelerator = _accelerator(mixed_precision, fsdp)
        sharded = fsdp and dist.is_available() and dist.is_initialized()
        if sharded and optimizer == "adamw-8bit":
            raise SettingsError(
                "The 8-bit optimiser does not work with weights sharded by FSDP2; use optimizer adamw, or fsdp False."
            )
        by_hand = sharded and accelerator.device.type == "cpu"
        if by_hand:  # accelerate does not shard on CPUs
            shard_in_place(model, mixed_precision)
        inner = _optimizer(model, learning_rate, weight_decay, optimizer, accelerator.device)
        if by_hand:
            # Evaluation mode keeps accelerate from wrapping the model a second time.
            model, inner = accelerator.prepare_model(model, evaluation_mode=True), accelerator.prepare(inner)
        else:
            model, inner = accelerator.prepare(model, inner)
        return cls(accelerator, model, inner, clip_norm, sharded)

    @property
    def bare_model(self) -> nn.Module:
        """The model without wrappers; its weights are shards if the engine shards."""
        result: nn.Module = self.accelerator.unwrap_model(self.model)
        return result

    @property
    def device(self) -> torch.device:
        """Device that batches are moved to."""
        result: torch.device = self.accelerator.device
        return result

    @property
    def rank(self) -> int:
        """Rank of this process."""
        result: int = self.accelerator.process_index
        return result

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        result: int = self.accelerator.num_processes
        return result

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        result: bool = self.accelerator.is_main_process
        return result

    def trainable(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name (shards if the engine shards)."""
        return {name: p for name, p in self.bare_model.named_parameters() if p.requires_grad}

    def whole_state(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy all weights and buffers of the model, unsharded; every process must call this.

        Args:
            values: Replacements for the values of parameters by name, sharded like the parameters.
        """
        state = self.bare_model.state_dict() | dict(values)
        return {name: whole_copy(value.detach()) for name, value in state.items()}

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """Sum a small tensor over all processes; the result is on the CPU."""
        if self.processes == 1:
            return values.cpu()
        result: Tensor = self.accelerator.reduce(values.to(self.device), "sum").cpu()
        return result

    def reshard(self) -> None:
        """Free the weights gathered by a forward pass without a backward pass; needed after shards are modified directly."""
        if self.sharded:
            reshard(self.bare_model)

    def wait_for_all(self) -> None:
        """Wait until all processes have reached this point."""
        self.accelerator.wait_for_everyone()

    def set_learning_rate(self, value: float) -> None:
        """Set the learning rate of all parameter groups."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Accumulate the gradient of a loss; the final gradient is the mean over processes of the sum of their losses.

        Args:
            loss: Loss of a part of the batch.
            last: Whether `update` comes next; until then, replicas do not exchange gradients.
        """
        alone = self.sharded or self.processes == 1
        with nullcontext() if last or alone else self.accelerator.no_sync(self.model):
            self.accelerator.backward(loss)

    def update(self) -> float:
        """Clip the gradient, update the weights and clear the gradient.

        Returns:
            The gradient norm before clipping.

        Raises:
            DivergenceError: The gradient is not finite; nothing is updated.
        """
        trainable = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(full(torch.nn.utils.clip_grad_norm_(trainable, self.clip_norm)))
        if norm != norm or norm in (float("inf"), float("-inf")):
            raise DivergenceError(f"the gradient norm is {norm}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def check_weights(self) -> None:
        """Stop a run whose trained weights are no longer finite, so that no checkpoint holds them; every process must call this.

        Raises:
            DivergenceError: A weight is not finite.
        """
        bad = sum(float((~local(p.detach()).isfinite()).sum()) for p in self.trainable().values())
        found = float(self.sum_over_processes(torch.tensor([bad], dtype=torch.float64))[0])
        if found:
            raise DivergenceError("weights are no longer finite numbers")

    def check_finite(self, loss: float) -> None:
        """Stop a run whose loss is no longer finite.

        Raises:
            DivergenceError: The loss is not finite.
        """
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise DivergenceError(f"the loss is {loss}")


class DivergenceError(ResourceError):
    """Loss, gradient or weights are no longer finite; the training loop adds how to go on."""


@contextmanager
def main_process_first() -> Iterator[bool]:
    """Run the block in the main process first, then in the others, which find its files; yields whether this is the main process."""
    state = PartialState(cpu=not torch.cuda.is_available())
    with state.main_process_first():
        yield state.is_main_process


def _accelerator(mixed_precision: str, fsdp: bool) -> Accelerator:
    # The same process trains the transformer and the painter, and accelerate would refuse a different precision for the second.
    AcceleratorState._reset_state()
    cuda = torch.cuda.is_available()
    plugin = accelerator_plugin(mixed_precision) if fsdp and cuda and "LOCAL_RANK" in os.environ else None
    # Stage 1 does not use the positions of speech windows.
    replicas = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=mixed_precision, cpu=not cuda, fsdp_plugin=plugin, kwargs_handlers=[replicas])


def _optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, kind: str, device: torch.device
) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=device.type in ("cpu", "cuda", "mps"))
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingDependencyError(
            "The 8-bit optimiser needs bitsandbytes: pip install fantasytalking[train], or use optimizer adamw."
        ) from error
    return AdamW8bit(groups, lr=learning_rate, betas=BETAS)
