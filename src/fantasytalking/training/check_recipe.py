"""Check of a whole recipe before anything is measured or trained: the model is built on the meta device and fed one made-up batch.

Tensors on the meta device have shapes and no values, so a model of any size costs nothing. The batch goes through the code that trains:
condition dropout, noising, forward pass, loss and backward pass, for each kind of stage and for the shortest and the longest windows.
Windows of speech are left out, as they select tokens by value.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fantasytalking.checkpoints.fill_model import build_empty
from fantasytalking.data.samples import Sample
from fantasytalking.errors import FantasyTalkingError, MissingDependencyError, SettingsError
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.progress import show_note
from fantasytalking.training.flow_matching import FlowMatching
from fantasytalking.training.lora import LoraSettings, add_lora
from fantasytalking.training.trainer.config import LoopConfig, TrainConfig
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["SampleSizes", "check_means", "check_transformer", "note_schedules"]


@dataclass(frozen=True)
class SampleSizes:
    """Sizes of the samples of a data set; None where samples lack a part.

    Attributes:
        latents: Latent channels, rows and columns [C, h, w].
        condition: Channels of the portrait's latents with their mask.
        text: Tokens and width of the text embedding.
        speech: Width of the speech features.
        image: Tokens and width of the image embedding.
        identity: Width of the face embedding.
        motion: Whether samples have motion intensities.
    """

    latents: tuple[int, int, int]
    condition: int
    text: tuple[int, int]
    speech: int | None = None
    image: tuple[int, int] | None = None
    identity: int | None = None
    motion: bool = False


@dataclass(frozen=True)
class _MadeUp:
    """Source of samples of these sizes; a batch is one window of a given number of frames."""

    sizes: SampleSizes
    frames: int

    def plan(self, step: int) -> Sequence[int]:
        return [self.frames]

    def sample(self, key: int, rng: np.random.Generator) -> Sample:
        sizes, frames = self.sizes, Strides().latent_frames(key)
        channels, *sides = sizes.latents
        return Sample(
            latents=torch.zeros(channels, frames, *sides),
            condition=torch.zeros(sizes.condition, frames, *sides),
            lip_mask=torch.ones(1, frames, *sides),
            text=torch.zeros(*sizes.text),
            audio=None if sizes.speech is None else torch.zeros(2 * key, sizes.speech),
            image=None if sizes.image is None else torch.zeros(*sizes.image),
            identity=None if sizes.identity is None else torch.zeros(sizes.identity),
            motion=torch.zeros(2) if sizes.motion else None,
        )


def check_transformer(
    config: TrainConfig, samples: SampleSizes, model: Any = None, lora: LoraSettings | None = None
) -> None:
    """Build the transformer of a run without values, and run a step of each stage and each window length through it.

    Args:
        config: Configuration of the run.
        samples: Sizes of the samples that it will be trained on.
        model: The model on the meta device; None builds that of `config.model`. It is changed.
        lora: LoRA to add to it.

    Raises:
        SettingsError: The model cannot be built, does not fit the samples, or has none of the layers that LoRA names.
    """
    meta = torch.device("meta")
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            # about parameters without values; what matters is raised
            warnings.simplefilter("ignore")
            if model is None:
                model = build_empty(lambda: FantasyTalkingTransformer3DModel(**config.model))
            _check_widths(dict(model.config), samples)
            model = model.to(meta).train()
            if lora is not None:
                add_lora(model, lora)
            # blocks are alike, and what fits two of them fits all
            model.blocks = model.blocks[:2]
            for step in _first_steps(config):
                for frames in sorted({min(config.frames), max(config.frames)}):
                    _run_step(config, model, _MadeUp(samples, frames), step)
    except FantasyTalkingError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(
            f"A model of these sizes cannot be trained ({reason}); change train.model or --train.frames: {_listed(config.model)}."
        ) from error


def _first_steps(config: TrainConfig) -> list[int]:
    """First step of a stage of each kind."""
    steps, begun = dict[str, int](), 0
    for stage in config.stages:
        steps.setdefault(stage.stage, begun)
        begun += stage.steps
    return list(steps.values())


def _run_step(config: TrainConfig, model: Any, source: _MadeUp, step: int) -> None:
    """Loss and gradient of one made-up sample, on the meta device."""
    objective = FlowMatching(config)
    batch = objective.prepare(source, step, [0]).to(torch.device("meta"))
    conditions = batch.samples.conditions
    if conditions.audio is not None:
        audio = replace(conditions.audio, ranges=None, lengths=None)
        batch = replace(batch, samples=replace(batch.samples, conditions=replace(conditions, audio=audio)))
    loss = objective.losses(model, batch, step).total.sum()
    if loss.requires_grad:
        loss.backward()


def _check_widths(model: Mapping[str, Any], samples: SampleSizes) -> None:
    """Compare the widths that the data have with those that the model takes.

    Raises:
        SettingsError: One differs.
    """
    channels, *sides = samples.latents
    wanted = {
        "out_channels": (channels, "channels of the latents"),
        "in_channels": (channels + samples.condition, "channels of noisy latents and condition"),
        "text_dim": (samples.text[1], "width of the text embeddings"),
        "audio_feature_dim": (samples.speech if model["audio_dim"] else None, "width of the speech features"),
        "image_dim": (None if samples.image is None else samples.image[1], "width of the image embeddings"),
        "identity_feature_dim": (samples.identity if model["identity_dim"] else None, "width of the face embeddings"),
    }
    for name, (width, what) in wanted.items():
        if width is not None and model[name] != width:
            raise SettingsError(f"train.model.{name} must be {width}, the {what} of the data, but it is {model[name]}.")
    across = model["patch_size"][1:]
    if any(side % patch for side, patch in zip(sides, across, strict=True)):
        raise SettingsError(
            f"train.model.patch_size must divide the latents of {sides[0]} x {sides[1]}, but it is {tuple(model['patch_size'])}."
        )
    if model["audio_dim"] and samples.speech is None:
        raise SettingsError(
            "The model listens to speech, but the data have no speech features; prepare the set with --model naming a pipeline with a "
            "speech encoder."
        )


def check_means(config: LoopConfig, *, shards: bool = True, recomputes: bool = True) -> None:
    """Check that a run can be computed in the way that its configuration asks for.

    Args:
        config: Configuration of the run.
        shards: Whether its weights can be sharded over processes.
        recomputes: Whether its network can recompute activations.

    Raises:
        MissingDependencyError: The 8-bit optimiser is asked for without bitsandbytes.
        SettingsError: Weights cannot be sharded, or activations not be recomputed.
    """
    note_schedules(config)
    if config.optimizer == "adamw-8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            "The 8-bit optimiser needs bitsandbytes: pip install fantasytalking[train], or use --train.optimizer adamw."
        )
    if config.gradient_checkpointing and not recomputes:
        raise SettingsError(
            "train.gradient_checkpointing must be False for this recipe, whose network is small; leave it out."
        )
    if config.fsdp and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if not shards:
            raise SettingsError(
                "train.fsdp must be False for this recipe, whose weights cannot be sharded; leave it out."
            )
        if config.optimizer == "adamw-8bit":
            raise SettingsError(
                "train.optimizer adamw-8bit does not work with weights sharded over processes; use --train.optimizer adamw or "
                "--train.no-fsdp."
            )


def note_schedules(config: LoopConfig) -> None:
    """Say on stderr where a warm-up is as long as its stage, whose peak learning rate is then never reached."""
    for number, stage in enumerate(config.stages):
        if stage.warmup > stage.steps:
            show_note(
                f"stages.{number} warms up over {stage.warmup} steps but has {stage.steps}, so its learning rate stays below "
                f"{stage.learning_rate:g}."
            )


def _listed(sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sizes.items() if value is not None)
