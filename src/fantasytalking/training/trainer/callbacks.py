"""Hooks into a run: validation, videos and logging happen alongside the loop, not inside it."""

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
    """Time and place of a validation.

    Attributes:
        step: Global step.
        number: Number of the validation within the run, from 1.
        run: Folder of the run.
    """

    step: int
    number: int
    run: RunFolder


@dataclass(frozen=True)
class Validated:
    """Results of a validation.

    Attributes:
        figures: Numbers by name.
        pictures: RGB images [H, W, 3] by name.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


class Callback:
    """Base class of hooks into a run; each hook does nothing unless overridden.

    The main process calls the hooks, in the order of the callbacks. Only `on_validation` may be called by every process.

    Attributes:
        needs_whole_model: Whether `on_validation` needs sharded weights to be gathered in the main process; otherwise every process calls
            it with the sharded model.
    """

    needs_whole_model: bool = False

    def on_begin(self, run: RunFolder, step: int, end: int) -> None:
        """Called when training begins.

        Args:
            run: Folder of the run.
            step: Steps done before.
            end: Step at which training ends.
        """

    def on_step(self, step: int) -> None:
        """Called after each step."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Called with each log line: losses and speeds since the previous line."""

    def on_validation(self, model: Any, moment: Moment) -> Validated:
        """Validate the model.

        Args:
            model: Model with the averaged weights, in evaluation mode.
            moment: Step and number of the validation.
        """
        return Validated()

    def on_validated(self, step: int, found: Validated) -> None:
        """Called with the merged results of all callbacks."""

    def on_end(self) -> None:
        """Called when training ends, for whatever reason."""


@dataclass(frozen=True)
class Validate(Callback):
    """Callback that measures the averaged weights.

    Attributes:
        figures: Function from a model to numbers by name.
        needs_whole_model: See `Callback`.
    """

    figures: Callable[[Any], Mapping[str, float]]
    needs_whole_model: bool = False

    def on_validation(self, model: Any, moment: Moment) -> Validated:
        """Measure the model."""
        return Validated(self.figures(model))
