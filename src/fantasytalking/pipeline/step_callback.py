"""The callback after each step, as diffusers has it: it sees tensors by name, and may replace them or stop the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fantasytalking.conditioning.conditions import replace
from fantasytalking.errors import InputError
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.system.records import nearest_name

__all__ = ["TENSOR_INPUTS", "StepCallback", "StepEnd", "tensor_inputs"]

StepEnd = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any] | None]
"""A callback as diffusers has it: (pipeline, step, timestep, tensors by name) -> tensors to replace."""

TENSOR_INPUTS = ("latents", "prompt_embeds", "negative_prompt_embeds")
"""Tensors that a callback may ask for: [B, C, f, h, w], [B, l, d], and [B, l, d] or None."""


def tensor_inputs(callback: StepEnd | None, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the tensors that a callback is given; a `PipelineCallback` of diffusers says so itself.

    Raises:
        InputError: There is no such tensor, or the callback cannot be called.
    """
    if callback is not None and not callable(callback):
        raise InputError(
            f"callback_on_step_end is of type {type(callback).__name__}; give a function of pipeline, step, timestep and tensors."
        )
    names = tuple(getattr(callback, "tensor_inputs", names))
    for name in names:
        if name not in TENSOR_INPUTS:
            raise InputError(
                f"callback_on_step_end_tensor_inputs names {name!r}, which this pipeline does not have; "
                f"{nearest_name(name, TENSOR_INPUTS, 'tensors')}"
            )
    return names


class StepCallback:
    """Calls a user's function after each step and hands on what it replaces.

    Args:
        pipeline: First argument of the function.
        callback: The function.
        names: Tensors that it is given.
        guidance: Guidance of the run, which holds the embeddings.
    """

    def __init__(self, pipeline: Any, callback: StepEnd, names: Sequence[str], guidance: Guidance) -> None:
        self.pipeline, self.callback, self.names, self.guidance = pipeline, callback, names, guidance

    def after_step(self, step: int, timestep: Tensor, latents: Tensor) -> Tensor | None:
        """Call the function; gives the latents to go on with, or None."""
        tensors = {
            "latents": latents,
            "prompt_embeds": self.guidance.conditions.text,
            "negative_prompt_embeds": self.guidance.negative_text,
        }
        changed = self.callback(self.pipeline, step, timestep, {name: tensors[name] for name in self.names}) or {}
        text, negative = changed.get("prompt_embeds"), changed.get("negative_prompt_embeds")
        if text is not None and text is not tensors["prompt_embeds"]:
            like = self.guidance.conditions.text
            self.guidance = dataclasses.replace(
                self.guidance, conditions=replace(self.guidance.conditions, text=text.to(like))
            )
        if negative is not None and negative is not tensors["negative_prompt_embeds"]:
            negative = negative.to(self.guidance.conditions.text)
            self.guidance = dataclasses.replace(self.guidance, negative_text=negative)
        return changed.get("latents")

    def steer(self, guidance: Guidance) -> Guidance:
        """The guidance of the next step, with the embeddings that the function replaced."""
        return self.guidance
