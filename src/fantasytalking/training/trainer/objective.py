"""Interface between the loop and a training method, which defines the loss and the contents of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fantasytalking.training.trainer.engine import Engine

__all__ = ["Losses", "Objective", "Prepared", "Workload"]


@dataclass(frozen=True)
class Losses:
    """Loss of a batch, kept per sample so that the log can show it by noise level.

    Attributes:
        total: Loss to minimise [B].
        parts: Further values [B] for the log, by the names in `Objective.parts`.
        noise: Noise level of each sample [B], 0 to 1; None for objectives without noise.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Tensor | None = None


@dataclass(frozen=True)
class Workload:
    """Size of one sample of a batch.

    Attributes:
        tokens: Number of tokens that the model processes.
        operations: Floating point operations of its training step; None if there is no formula.
    """

    tokens: float = 0.0
    operations: float | None = None


class Prepared(Protocol):
    """Samples of a batch with all their random draws, on the CPU."""

    def to(self, device: torch.device) -> Any:
        """Copy of the batch on a device."""
        ...


class Objective(Protocol):
    """Training method of a run; only it knows the inputs of the model."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the loss parts, in log order."""
        ...

    @property
    def counts_operations(self) -> bool:
        """Whether `workload` counts operations."""
        ...

    @property
    def method(self) -> Mapping[str, Any]:
        """Settings beyond the run's configuration, as JSON values; a run is not resumed with different ones."""
        ...

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Prepare for a run; called once, before the newest checkpoint is loaded.

        Args:
            engine: Model, optimiser and device.
            average: Averaged weights by parameter name, updated in place after each step.
        """
        ...

    def prepare(self, source: Any, step: int, rows: Sequence[int]) -> Any:
        """Prepare some rows of the global batch of a step.

        The result depends only on seed and step, as a thread may prepare batches in advance.

        Args:
            source: Source of the samples.
            step: Global step.
            rows: Indices of the samples in the global batch.

        Returns:
            A `Prepared`.
        """
        ...

    def losses(self, model: nn.Module, batch: Any, step: int) -> Losses:
        """Run the forward pass and compute the loss of each sample.

        Args:
            model: The model, wrapped for several processes.
            batch: A batch from `prepare`, on the model's device.
            step: Global step.
        """
        ...

    def workload(self, batch: Any) -> Workload:
        """Size of one sample of a batch from `prepare`."""
        ...
