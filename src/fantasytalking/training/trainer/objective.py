"""Interface between the loop and a method of training: what is minimised, and what a batch is made of."""

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
    """Loss of a batch, kept per sample so that loss by noise level costs nothing.

    Attributes:
        total: [B], what is minimised.
        parts: further figures [B] by name, for the log; those that the objective names in `Objective.parts`.
        noise: noise level of each sample [B], 0 to 1; None for objectives without noise.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Tensor | None = None


@dataclass(frozen=True)
class Workload:
    """Size of one sample of a batch.

    Attributes:
        tokens: tokens that the model works on.
        operations: floating point operations of its training step; None where no formula is known.
    """

    tokens: float = 0.0
    operations: float | None = None


class Prepared(Protocol):
    """Samples of a batch with everything that was drawn for them, on the CPU."""

    def to(self, device: torch.device) -> Any:
        """The same on a device."""
        ...


class Objective(Protocol):
    """Strategy of a run; the loop knows nothing of the model's inputs beyond it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the loss parts, in the order of the log."""
        ...

    @property
    def counts_operations(self) -> bool:
        """Whether `workload` knows the operations of a step."""
        ...

    @property
    def method(self) -> Mapping[str, Any]:
        """Settings of the method beyond the run's configuration, as JSON has them: a run is not resumed with other ones."""
        ...

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Take what the objective needs of a run; called once, before the newest checkpoint is loaded.

        Args:
            engine: model and device.
            average: averaged weights by parameter name, updated in place after each step.
        """
        ...

    def prepare(self, source: Any, step: int, rows: Sequence[int]) -> Any:
        """Rows of the global batch of a step: a pure function of seed and step, as a thread may prepare batches ahead.

        Args:
            source: of samples.
            step: global step.
            rows: numbers in the global batch.

        Returns:
            A `Prepared`.
        """
        ...

    def losses(self, model: nn.Module, batch: Any, step: int) -> Losses:
        """Forward pass.

        Args:
            model: to be called; wrapped for several processes.
            batch: what `prepare` made, on the model's device.
            step: global step.
        """
        ...

    def workload(self, batch: Any) -> Workload:
        """Size of one sample of a batch that `prepare` made."""
        ...
