"""Setup of a distillation at any size: student, teacher and trainer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import SettingsError
from fantasytalking.guidance import GuidancePlan
from fantasytalking.training.distillation.distillation_objective import Distillation, velocity_of
from fantasytalking.training.distillation.distillation_recipes import DistillConfig
from fantasytalking.training.distillation.phased_consistency import GuidedTeacher, Velocity
from fantasytalking.training.lora import add_lora
from fantasytalking.training.trainer.callbacks import Callback
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.random_draws import seeded
from fantasytalking.training.trainer.run_folder import RunFolder
from fantasytalking.training.trainer.sources import SampleSource
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["check_guidance", "frozen", "make_distiller", "student_defaults", "without_lora"]


def frozen(model: FantasyTalkingTransformer3DModel) -> Velocity:
    """Freeze a model and wrap it as a network."""
    return velocity_of(model.requires_grad_(False).eval())


def without_lora(model: FantasyTalkingTransformer3DModel) -> Velocity:
    """Wrap a model as a network without the LoRA that `add_lora` added."""

    def velocity(hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        model.disable_adapters()
        try:
            result: Tensor = model(hidden, timestep, conditions).sample
            return result
        finally:
            model.enable_adapters()

    return velocity


def make_distiller(
    config: DistillConfig,
    model: FantasyTalkingTransformer3DModel,
    source: SampleSource,
    run: Path,
    audio_channels: Tensor | None = None,
    negative_text: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Make the trainer of a student that starts as a copy of the teacher, or as the teacher with LoRA.

    Args:
        config: Configuration of the distillation.
        model: The teacher; with `config.lora` it becomes the student as well, and its frozen weights remain the teacher.
        source: Source of the samples.
        run: Run folder.
        audio_channels: Guidance channels [C] of the autoencoder, used if `config.guidance_channels` is None.
        negative_text: Embeddings of the negative prompt [l, dt], for prompt guidance.
        callbacks: See `Trainer`.

    Raises:
        SettingsError: The guidance does not fit the model, or the run folder belongs to another distillation.
    """
    channels = _guidance_channels(config, audio_channels, model.config.out_channels)
    if config.lora is None:
        network = frozen(model)
        student = copy.deepcopy(model).float().requires_grad_(True)
    else:
        student = model
        with seeded(config.train.seed, "lora"):
            add_lora(student, config.lora)
        network = without_lora(student)
    has_negative = negative_text is not None or config.prompt_guidance_scale != 1
    plan = GuidancePlan(config.prompt_guidance_scale, config.audio_guidance_scale, has_negative=has_negative)
    teacher = GuidedTeacher(network, plan, channels, negative_text)
    objective = Distillation(config, teacher, None if student is model else model)
    return Trainer(student, source, objective, config.train, RunFolder(run), callbacks)


def _guidance_channels(config: DistillConfig, audio_channels: Tensor | None, count: int) -> Tensor | None:
    channels = audio_channels if config.guidance_channels is None else torch.tensor(config.guidance_channels)
    if channels is not None and channels.shape != (count,):
        raise SettingsError(
            f"guidance_channels must be {count} numbers, one for each latent channel of the model, but {len(channels)} were given."
        )
    return channels


def check_guidance(
    config: DistillConfig, audio_channels: Tensor | None, has_negative: bool, out_channels: int | None = None
) -> None:
    """Check that the guidance which the student learns to include fits the model, before any data are read.

    Args:
        config: Configuration of the distillation.
        audio_channels: Guidance channels [C] of the autoencoder; None where it has none.
        has_negative: Whether there will be embeddings of a negative prompt.
        out_channels: Latent channels of the model; None leaves the number of channels unchecked.

    Raises:
        SettingsError: It does not fit.
    """
    channels = None if out_channels is None else _guidance_channels(config, audio_channels, out_channels)
    has_prompt = has_negative or config.prompt_guidance_scale != 1
    plan = GuidancePlan(config.prompt_guidance_scale, config.audio_guidance_scale, has_negative=has_prompt)
    # its own checks; the network is not run
    GuidedTeacher(lambda hidden, _, __: hidden, plan, channels, torch.zeros(1, 1) if has_negative else None)


def student_defaults(config: DistillConfig) -> dict[str, float]:
    """Default settings of a student: its number of steps, with one pass per step."""
    return {
        "steps": config.student_steps,
        "audio_guidance_scale": 1.0,
        "prompt_guidance_scale": 1.0,
        "sigma_shift": config.train.shift,
    }
