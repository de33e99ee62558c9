"""Calls of a pipeline that several processes make together, each with a copy of the model on a device of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from fantasytalking.acceleration.parallel_plan import ParallelPlan, automatic_plan, parse_parallel
from fantasytalking.acceleration.ranks import Ranks, connect, together
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.plan_run import count_passes
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["ParallelCalls", "plan_for"]

Made = TypeVar("Made")


class ParallelCalls:
    """Lets several processes share the work of each call of `FantasyTalkingPipeline`, whose attributes it uses."""

    ranks: Ranks | None = None
    """The processes that share each call; None: this one makes it alone."""

    def enable_parallel(self, plan: str = "auto", ranks: Ranks | None = None) -> Ranks:
        """Share the work of each call with the other processes, which torchrun has started.

        Every process makes the same calls, with the same arguments, and gets the same video. The first alone writes files and is given the
        frames of `stream`; the others iterate over it all the same. Frames of a long video without an output are generated while they are
        taken, so all processes have to take them alike.

        Args:
            plan: `guidance=2` (the guidance passes of a step on two processes), `ulysses=2` (the tokens of a pass), `guidance=2,ulysses=2`
                (four processes), or `auto`: the fastest of these by the default settings.
            ranks: The processes where they are connected already, by a plan of theirs; None: they are connected now, by the device that the
                model is on.

        Raises:
            SettingsError: There are no such processes, or the model cannot be shared in this way.
        """
        pipeline: Any = self
        if self.ranks is not None:
            raise SettingsError(
                "The work of this pipeline is shared already; load it again to share it in another way."
            )
        wanted = parse_parallel(plan) if ranks is None else ranks.plan
        ranks = ranks or connect(pipeline._execution_device)
        config, settings = pipeline.transformer.config, pipeline.settings()
        if wanted is None:
            wanted = plan_for(ranks.count, settings, config.num_attention_heads, pipeline.text_encoder is not None)
        ranks.share(wanted, pipeline.transformer)
        self.ranks = ranks
        return ranks

    def _together(self) -> contextlib.AbstractContextManager[None]:
        """A block whose error in one process is an error of all."""
        return together(self.ranks)

    @property
    def _writes(self) -> bool:
        """Whether this process writes files."""
        return self.ranks is None or self.ranks.is_first

    def _made_by_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes; tensors in it have to be on the CPU where there are several."""
        return make() if self.ranks is None else self.ranks.of_first(make)

    def _of_first(self, values: Tensor) -> Tensor:
        """The first process's values: however a callback or a device may differ, all processes go on with the same latents."""
        return values if self.ranks is None else self.ranks.first(values)

    def _is_stopped(self) -> bool:
        """Whether a callback has stopped the run, in whichever process; from then on, `_interrupt` says so in all of them."""
        pipeline: Any = self
        if self.ranks is not None:
            pipeline._interrupt = self.ranks.any(pipeline._interrupt)
        stopped: bool = pipeline._interrupt
        return stopped


def plan_for(processes: int, settings: GenerationSettings, heads: int, has_prompt: bool) -> ParallelPlan:
    """The fastest division of the work of a call between some processes.

    Args:
        processes: Number of processes.
        settings: Settings of the call.
        heads: Attention heads of the transformer.
        has_prompt: Whether the model has a text encoder.

    Raises:
        SettingsError: The model cannot be shared by so many.
    """
    return automatic_plan(processes, count_passes(settings, has_prompt), heads)
