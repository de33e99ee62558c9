"""Noise levels of a sampling run, and the solver that steps through them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fantasytalking.errors import SettingsError
from fantasytalking.flow import TIMESTEPS
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["Schedule", "Solver", "make_schedule", "own_shift"]

Solver = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One step: (velocity, timestep, latents) -> float32 latents at the next noise level."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels and the way between them; serves any number of runs, as each takes a solver of its own.

    Attributes:
        scheduler: A flow scheduler of diffusers whose timesteps are set; it is copied, never stepped.
        seed: Seed for the schedulers that draw noise at each step.
        begin: Number of noise levels that are left out at the beginning.
    """

    scheduler: Any
    seed: int = 0
    begin: int = 0

    @classmethod
    def of_sigmas(cls, sigmas: Tensor) -> Schedule:
        """Euler's method (of diffusers) over given noise levels.

        Args:
            sigmas: [n + 1], shifted already, decreasing, each in [0, 1]: n steps from the first to the last, which need not be 0.
                In float64 the steps are rounded to float32 once, after subtraction.
        """
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(sigmas=sigmas[:-1].tolist(), device=sigmas.device)
        # As they are, and with their own end: diffusers rounds to float32 and always goes on to 0.
        scheduler.sigmas, scheduler.timesteps = sigmas, (TIMESTEPS * sigmas[:-1]).float()
        scheduler.set_begin_index(0)
        return cls(scheduler)

    @property
    def timesteps(self) -> Tensor:
        """Timestep of each network call, 1000 (noise) to 0 (data); solvers of higher order call more than once a level."""
        return self.scheduler.timesteps[self.begin :]  # type: ignore[no-any-return]

    @property
    def sigmas(self) -> Tensor:
        """Noise level before each step and after the last one."""
        return self.scheduler.sigmas[self.begin :]  # type: ignore[no-any-return]

    def last_part(self, strength: float) -> Schedule:
        """The last steps of this schedule, at least one: the share `strength` of them, as diffusers' video-to-video pipelines count it.

        Args:
            strength: Above 0, to 1 for all of them.
        """
        count = len(self.timesteps)
        return dataclasses.replace(self, begin=count - max(1, min(count, int(count * strength))))

    @property
    def is_resumable(self) -> bool:
        """Whether a step depends on the latents before it alone, so that a solver may begin in the middle: with Euler's method."""
        return type(self.scheduler) is FlowMatchEulerDiscreteScheduler and not self.scheduler.config.stochastic_sampling

    def solver(self, done: int = 0) -> Solver:
        """A solver at the first noise level, with its random numbers at their beginning.

        Args:
            done: Steps that were taken before, where the schedule `is_resumable`.
        """
        scheduler = copy.deepcopy(self.scheduler)
        if self.begin or done:
            scheduler.set_begin_index(self.begin + done)
        draws = {"generator": torch.Generator("cpu").manual_seed(self.seed)}
        extra = draws if "generator" in inspect.signature(scheduler.step).parameters else {}

        def step(velocity: Tensor, timestep: Tensor, latents: Tensor) -> Tensor:
            moved: Tensor = scheduler.step(velocity, timestep, latents, return_dict=False, **extra)[0]
            return moved.float()

        return step


def make_schedule(scheduler: Any, settings: GenerationSettings, device: torch.device) -> Schedule:
    """The schedule of a generation; the pipeline's own scheduler stays as it is, so that no call changes the next.

    diffusers' Euler is given evenly spaced levels, linspace(1, 0, steps + 1) without the 0, and shifts them itself by the
    formula of `flow.shifted`, as released. So is its LCM: of its own levels, the last one is next to 0, a step that distilled models have
    not. Other flow schedulers choose their own levels under the same shift.

    Args:
        scheduler: Any flow scheduler of diffusers.
        settings: Uses the steps, the shift and the seed.
        device: Where the timesteps go.

    Raises:
        SettingsError: The scheduler does not predict velocities of flow matching, or shifts by the size of the picture.
    """
    config = scheduler.config
    is_flow = "FlowMatch" in type(scheduler).__name__ or config.get("prediction_type") == "flow_prediction"
    if not is_flow:
        raise SettingsError(
            f"The scheduler {type(scheduler).__name__} is not set up for flow matching; use a FlowMatch scheduler, "
            "or one with prediction_type='flow_prediction' and use_flow_sigmas=True."
        )
    if config.get("use_dynamic_shifting"):
        raise SettingsError(
            f"The scheduler {type(scheduler).__name__} has use_dynamic_shifting=True, which shifts by the size of the picture and is not "
            "Wan's schedule; make it with use_dynamic_shifting=False, and give the shift as sigma_shift."
        )
    fresh = type(scheduler).from_config(config, **{_shift_name(config): settings.sigma_shift})
    # Euler's base class gives sigmas a meaning of their own in some subclasses, hence the exact type.
    if type(scheduler).__name__ in ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"):
        sigmas = np.linspace(1, 0, settings.steps + 1)[:-1]
        fresh.set_timesteps(sigmas=sigmas.tolist(), device=device)
    else:
        fresh.set_timesteps(settings.steps, device=device)
    if hasattr(fresh, "set_begin_index"):
        fresh.set_begin_index(0)
    return Schedule(fresh, settings.seed)


def own_shift(scheduler: Any) -> float | None:
    """The shift that a scheduler was made with or set to; None where nobody chose one and it has its class's default."""
    config = scheduler.config
    name = _shift_name(config)
    # `set_shift` leaves the configuration as it is. Schedulers without that property give what their config happens to hold.
    has_property = isinstance(getattr(type(scheduler), "shift", None), property)
    shift: float | None = scheduler.shift if has_property else config.get(name)
    is_default = name in config.get("_use_default_values", ()) and shift == config.get(name)
    return None if shift is None or is_default else float(shift)


def _shift_name(config: Any) -> str:
    return "flow_shift" if "flow_shift" in config else "shift"
