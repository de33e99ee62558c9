"""Hooks into a run: validation, videos and logging accompany the loop and are no part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.training.trainer.run_folder import RunFolder

__all__ = ["Callback", "Moment", "Validate", "Validated"]


@dataclass(frozen=True)
class Moment:
    """When a validation takes place.

    Attributes:
        step: global step.
        number: which validation of the run it is, from 1.
        run: the run's folder.
    """

    step: int
    number: int
    run: RunFolder


@dataclass(frozen=True)
class Validated:
    """Results of a validation.

    Attributes:
        figures: numbers by name.
        pictures: RGB pictures [H, W, 3] by name.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


class Callback:
    """Companion of a run; each hook does nothing unless it is overridden.

    The main process calls the hooks, in the order of the callbacks. `on_validation` alone may be called by every process.

    Attributes:
        needs_whole_model: whether `on_validation` wants the model put together in the main process where weights are sharded; otherwise
            every process calls it with the sharded model.
    """

    needs_whole_model: bool = False

    def on_begin(self, run: RunFolder, step: int, end: int) -> None:
        """Training begins.

        Args:
            run: its folder.
            step: that it begins with.
            end: last step.
        """

    def on_step(self, step: int) -> None:
        """A step is done."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """A line of the log: losses and speeds since the last one."""

    def on_validation(self, model: Any, moment: Moment) -> Validated:
        """Validate.

        Args:
            model: with the averaged weights, in evaluation mode.
            moment: when.
        """
        return Validated()

    def on_validated(self, step: int, found: Validated) -> None:
        """Results of all callbacks together."""

    def on_end(self) -> None:
        """Training ends, by whatever cause."""


@dataclass(frozen=True)
class Validate(Callback):
    """Figures of the averaged weights.

    Attributes:
        figures: model -> numbers by name.
        needs_whole_model: see `Callback`.
    """

    figures: Callable[[Any], Mapping[str, float]]
    needs_whole_model: bool = False

    def on_validation(self, model: Any, moment: Moment) -> Validated:
        """Measure the model."""
        return Validated(self.figures(model))
