"""Everything that decides a distillation, as typed data, and the ready-made settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from fantasytalking.data.samples import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig

# to_q of attn2 is shared by text, image, audio and identity; the processor's own projections are the FantasyTalking adapter
LORA_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "add_k_proj",
    "add_v_proj",
    "ffn.net.0.proj",
    "ffn.net.2",
    "audio_k_proj",
    "audio_v_proj",
    "identity_k_proj",
    "identity_v_proj",
)


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank additions that are trained instead of the weights.

    Attributes:
        rank: of each addition.
        alpha: its output is multiplied by alpha / rank.
        targets: endings of the names of the linear layers that get one; layers that the model lacks are passed over.
    """

    rank: int = 64
    alpha: float = 64.0
    targets: tuple[str, ...] = LORA_TARGETS

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise SettingsError(
                f"LoRA needs a rank of at least 1 and at least one target layer, but has rank {self.rank} and targets {self.targets}."
            )


@dataclass(frozen=True)
class DistillConfig:
    """A run of the student; what it shares with ordinary training is in `train`.

    Attributes:
        train: the run: one stage of the kind "frame", batch, shift, dropout, optimiser; `model` is filled in from the teacher.
        student_steps: sampling steps that the student shall need, one phase of the noise schedule each.
        solver_steps: Euler steps into which the teacher's way through a whole phase is divided.
        substeps: how many of them the teacher makes from a start point; `solver_steps` or more reach the phase's end from
            everywhere, with fewer the averaged student makes the rest in one step.
        audio_guidance_scale: g_audio that is folded in.
        prompt_guidance_scale: g_prompt that is folded in; 1 for models without text.
        guidance_channels: [C] factors of (g_audio - 1) by latent channel, 1 as in the formula, 0 as if unguided; None: what the
            model's autoencoder says.
        at_start: share of start points exactly at the beginning of a phase, where sampling will stand; the others lie inside.
        on_policy: share of start points at the end of the averaged student's own way through the phases before.
        lip_weight: how much more an error counts inside the lip mask: each element has the weight 1 + lip_weight * M.
        huber: c of the pseudo-Huber loss, sqrt(d^2 + c^2) - c for each element; 0: the squared error.
        lora: train these additions and keep the teacher's weights; None: train all weights.

    Raises:
        SettingsError: a value is outside its range.
    """

    train: TrainConfig
    student_steps: int = 4
    solver_steps: int = 3
    substeps: int = 3
    audio_guidance_scale: float = 2.0
    prompt_guidance_scale: float = 1.0
    guidance_channels: tuple[float, ...] | None = None
    at_start: float = 0.8
    on_policy: float = 0.5
    lip_weight: float = 1.0
    huber: float = 0.0
    lora: LoraSettings | None = None

    def __post_init__(self) -> None:
        for name in ("student_steps", "solver_steps", "substeps"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"{name} of a distillation must be at least 1, but {getattr(self, name)} was given."
                )
        for name in ("at_start", "on_policy"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    f"{name} of a distillation is a share from 0 to 1, but {getattr(self, name)} was given."
                )
        for name in ("audio_guidance_scale", "prompt_guidance_scale", "lip_weight", "huber"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} of a distillation must be 0 or more, but {getattr(self, name)} was given.")
        if [stage.stage for stage in self.train.stages] != ["frame"]:
            raise SettingsError(
                "A distillation has one stage, of the kind 'frame' as in inference, but was given "
                f"{[stage.stage for stage in self.train.stages]}."
            )

    def scaled_to(self, steps: int) -> DistillConfig:
        """The same run with `steps` optimiser steps."""
        return replace(self, train=self.train.scaled_to(steps))

    def method(self) -> dict[str, Any]:
        """What the student is taught, as JSON has it; a run cannot change it on the way."""
        raw = json.loads(json.dumps(asdict(self)))
        return {**{k: v for k, v in raw.items() if k != "train"}, "sigma_shift": raw["train"]["shift"]}


DISTIL_EMBEDDED = DistillConfig(
    train=TrainConfig(
        stages=(StageSchedule("frame", 3000, 2e-4, warmup=50, final_fraction=0.02),),
        model={},
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
        model={},
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
