"""Configuration of a distillation as checked records, and the ready-made recipes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Annotated, Any

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import field, record
from fantasytalking.training.lora import LoraSettings
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig


@record
class DistillConfig:
    """Configuration of a distillation; `train` holds the settings shared with ordinary training."""

    train: Annotated[
        TrainConfig,
        field("Training run of the student, with one stage, frame; its model is filled in from the teacher."),
    ]
    student_steps: Annotated[
        int, field("Sampling steps of the student, one for each phase of the noise schedule.", minimum=1)
    ] = 4
    solver_steps: Annotated[int, field("Euler steps of the teacher in a whole phase.", minimum=1)] = 3
    substeps: Annotated[
        int,
        field(
            "Euler steps that the teacher takes from a start point. With at least solver-steps it always reaches the end of the "
            "phase; with fewer, the averaged student covers the rest in one step.",
            minimum=1,
        ),
    ] = 3
    audio_guidance_scale: Annotated[
        float, field("Audio guidance scale that the student learns to include.", minimum=0)
    ] = 2.0
    prompt_guidance_scale: Annotated[
        float, field("Prompt guidance scale that the student learns to include; 1 for models without text.", minimum=0)
    ] = 1.0
    guidance_channels: Annotated[
        tuple[float, ...] | None,
        field(
            "Factor of (audio guidance - 1) for each latent channel: 1 is full guidance, 0 is none; by default those of the "
            "model's autoencoder."
        ),
    ] = None
    at_start: Annotated[
        float,
        field(
            "Share of start points exactly at the beginning of a phase, as in sampling; the others lie inside it.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.8
    on_policy: Annotated[
        float,
        field(
            "Share of start points that the averaged student reached on its own through the earlier phases.",
            minimum=0,
            maximum=1,
        ),
    ] = 0.5
    lip_weight: Annotated[
        float,
        field(
            "Additional weight of errors inside the lip mask M: an element has weight 1 + lip-weight * M.",
            minimum=0,
        ),
    ] = 1.0
    huber: Annotated[
        float,
        field(
            "Constant c of the pseudo-Huber loss sqrt(d^2 + c^2) - c per element; 0 gives the squared error.", minimum=0
        ),
    ] = 0.0
    lora: Annotated[
        LoraSettings | None, field("LoRA to train on the frozen teacher; without it, all weights are trained.")
    ] = None

    def __post_init__(self) -> None:
        if [stage.stage for stage in self.train.stages] != ["frame"]:
            raise SettingsError(
                "A distillation has one stage, of the kind 'frame' as in inference, but was given "
                f"{[stage.stage for stage in self.train.stages]}."
            )

    def scaled_to(self, steps: int) -> DistillConfig:
        """Scale the run to `steps` optimiser steps."""
        return replace(self, train=self.train.scaled_to(steps))

    def method(self) -> dict[str, Any]:
        """Settings of the distillation as JSON values; a run is not resumed with different ones."""
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
"""Recipe of the embedded model, whose teacher is cheap and therefore goes to the end of each phase."""

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
"""Recipe at the released size: one Euler step of the teacher, the rest by the averaged student; LoRA on the frozen weights."""

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
"""Recipe that runs for seconds, for trials."""

DISTIL_LORA_TINY = replace(
    DISTIL_14B,
    train=replace(DISTIL_TINY.train, shift=5.0, frames=(9,), batch_tokens=6),
    lora=LoraSettings(rank=4, alpha=4.0),
)
"""Recipe that runs for seconds with LoRA, where the averaged student takes the rest of each phase."""

DISTIL_RECIPES = {
    "distil": DISTIL_EMBEDDED,
    "distil-14b": DISTIL_14B,
    "distil-tiny": DISTIL_TINY,
    "distil-lora-tiny": DISTIL_LORA_TINY,
}
"""Recipes by name; all need a teacher. Without LoRA the result is a model folder, with LoRA the LoRA weights."""
