"""Everything that decides a distillation, as typed data, and the ready-made settings."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Annotated, Any

from fantasytalking.data.samples import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import field, record
from fantasytalking.training.lora import LoraSettings
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig


@record
class DistillConfig:
    """A run of the student; what it shares with ordinary training is in `train`."""

    train: Annotated[
        TrainConfig,
        field("The run: one stage frame, batch, shift, dropout, optimiser; its model is filled in from the teacher."),
    ]
    student_steps: Annotated[
        int, field("Sampling steps that the student shall need, one phase of the noise schedule each.", minimum=1)
    ] = 4
    solver_steps: Annotated[
        int, field("Euler steps into which the teacher's way through a whole phase is divided.", minimum=1)
    ] = 3
    substeps: Annotated[
        int,
        field(
            "How many of them the teacher makes from a start point; solver-steps or more reach the phase's end from everywhere, with "
            "fewer the averaged student makes the rest in one step.",
            minimum=1,
        ),
    ] = 3
    audio_guidance_scale: Annotated[float, field("Audio guidance that is folded in.", minimum=0)] = 2.0
    prompt_guidance_scale: Annotated[
        float, field("Prompt guidance that is folded in; 1 for models without text.", minimum=0)
    ] = 1.0
    guidance_channels: Annotated[
        tuple[float, ...] | None,
        field(
            "Factors of (audio guidance - 1) by latent channel, 1 as in the formula, 0 as if unguided; nothing means what the model's "
            "autoencoder says."
        ),
    ] = None
    at_start: Annotated[
        float,
        field(
            "Share of start points exactly at the beginning of a phase, where sampling will stand; the others lie inside.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.8
    on_policy: Annotated[
        float,
        field(
            "Share of start points at the end of the averaged student's own way through the phases before.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.5
    lip_weight: Annotated[
        float,
        field(
            "How much more an error counts inside the lip mask M: an element has the weight 1 + lip-weight * M.",
            minimum=0,
        ),
    ] = 1.0
    huber: Annotated[
        float,
        field("c of the pseudo-Huber loss sqrt(d^2 + c^2) - c of each element; 0 is the squared error.", minimum=0),
    ] = 0.0
    lora: Annotated[
        LoraSettings | None, field("Train these additions and keep the teacher's weights; nothing trains all weights.")
    ] = None

    def __post_init__(self) -> None:
        if [stage.stage for stage in self.train.stages] != ["frame"]:
            raise SettingsError(
                "A distillation has one stage, of the kind 'frame' as in inference, but was given "
                f"{[stage.stage for stage in self.train.stages]}."
            )

    def scaled_to(self, steps: int) -> DistillConfig:
        """The same run with `steps` optimiser steps."""
        return replace(self, train=self.train.scaled_to(steps))

    def method(self) -> dict[str, Any]:
        """Settings of what the student is taught, as JSON has them; a run cannot change them on the way."""
        raw = json.loads(json.dumps(asdict(self)))
        return {**{k: v for k, v in raw.items() if k != "train"}, "sigma_shift": raw["train"]["shift"]}


DISTIL_EMBEDDED = DistillConfig(
    train=TrainConfig(
        stages=(StageSchedule("frame", 3000, 2e-4, warmup=50, final_fraction=0.02),),
        frames=(73, 73, 145),
        batch_tokens=304,
        dropout=Dropout(reference=0.0, audio=0.05, text=0.0),
        weight_decay=0.0,
    ),
)
"""The embedded model: its teacher is cheap, so it goes to the end of each phase."""

DISTIL_14B = DistillConfig(
    train=TrainConfig(
        stages=(StageSchedule("frame", 4000, 1e-4, warmup=200, final_fraction=0.1),),
        frames=(81,),
        batch_tokens=16 * 21,
        continuation=0.1,
        shift=5.0,
        dropout=Dropout(reference=0.0, audio=0.05, text=0.1),
        weight_decay=0.0,
        ema=0.995,
        mixed_precision="bf16",
        gradient_checkpointing=True,
    ),
    solver_steps=8,
    substeps=1,
    audio_guidance_scale=5.0,
    prompt_guidance_scale=5.0,
    at_start=0.25,
    on_policy=0.0,
    huber=0.03,
    lora=LoraSettings(),
)
"""The released size: one solver step of the teacher, the rest by the averaged student; LoRA beside the frozen weights."""

DISTIL_TINY = replace(
    DISTIL_EMBEDDED,
    train=replace(
        DISTIL_EMBEDDED.train,
        stages=(StageSchedule("frame", 4, 1e-3, warmup=1),),
        frames=(9,),
        batch_tokens=12,
        validate_every=4,
        log_every=2,
    ),
)
"""A run of seconds, for trying the machinery out."""

DISTIL_LORA_TINY = replace(
    DISTIL_14B,
    train=replace(DISTIL_TINY.train, shift=5.0, frames=(9,), batch_tokens=6),
    lora=LoraSettings(rank=4, alpha=4.0),
)
"""The same with LoRA and the averaged student's steps."""

DISTIL_RECIPES = {
    "distil": DISTIL_EMBEDDED,
    "distil-14b": DISTIL_14B,
    "distil-tiny": DISTIL_TINY,
    "distil-lora-tiny": DISTIL_LORA_TINY,
}
"""Recipes that need a teacher. Without LoRA they end in a model folder, with it in LoRA weights."""
