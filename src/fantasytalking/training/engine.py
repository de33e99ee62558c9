"""The only file that knows accelerate: devices, processes, precision, gradient steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from fantasytalking.errors import ResourceError


@dataclass
class Engine:
    """A model, its optimiser and where they run.

    Attributes:
        accelerator: from accelerate.
        model: the wrapped model, to be called.
        optimizer: the wrapped optimiser.
        clip_norm: gradient norm limit.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    clip_norm: float

    @classmethod
    def create(
        cls, model: nn.Module, learning_rate: float, weight_decay: float, clip_norm: float, mixed_precision: str = "no"
    ) -> Engine:
        """AdamW (beta 0.9, 0.99; no decay on vectors) under accelerate.

        Args:
            model: trained in place; its parameters that require gradients.
            learning_rate: until `set_learning_rate`.
            weight_decay: on matrices and kernels.
            clip_norm: gradient norm limit.
            mixed_precision: "no" or "bf16".
        """
        # one process trains transformer and painter, and accelerate would refuse the second one another precision
        AcceleratorState._reset_state()
        accelerator = Accelerator(mixed_precision=mixed_precision, cpu=not torch.cuda.is_available())
        decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99), fused=True)
        model, optimizer = accelerator.prepare(model, optimizer)
        return cls(accelerator, model, optimizer, clip_norm)

    @property
    def bare_model(self) -> nn.Module:
        """The model without wrappers."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.accelerator.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.accelerator.is_main_process

    def set_learning_rate(self, value: float) -> None:
        """For all parameter groups."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def step(self, loss: Tensor) -> float:
        """Backward, clip, update; returns the gradient norm.

        Raises:
            ResourceError: loss or gradient is not finite; nothing is updated then.
        """
        self.accelerator.backward(loss)
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_norm))
        if not torch.isfinite(loss) or norm != norm or norm == float("inf"):
            raise ResourceError(
                f"Training diverged: loss {float(loss.detach())}, gradient norm {norm}; resume from the last checkpoint with a "
                "lower learning rate."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm
