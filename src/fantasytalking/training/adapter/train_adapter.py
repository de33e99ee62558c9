"""Training of the parts that FantasyTalking adds to Wan: the adapter, and optionally LoRA, on a frozen backbone of any width.

The trained parts are the audio projector, the audio and identity projections of every block, the Q-Former and the motion network (paper,
sections 3.2 to 3.4). Latents are precomputed, so no encoder is loaded. With mixed precision the frozen weights are in bf16, and norms and
the time embedding in float32, as at inference; trained weights are in float32, as steps of 1e-4 would be rounded away in bf16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.checkpoints.load_models import load_transformer, open_transformer, plan_transformer
from fantasytalking.data.latent_dataset import LatentDataset, Prefix, Window
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.data.samples import Sample
from fantasytalking.errors import InputError
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.progress import show_note
from fantasytalking.training.adapter.adapter_recipes import AdapterRecipe
from fantasytalking.training.adapter.export_run import export_run
from fantasytalking.training.adapter.run_description import RUN, describe_run
from fantasytalking.training.check_folders import check_data, check_output_folder
from fantasytalking.training.check_recipe import SampleSizes, check_means, check_transformer
from fantasytalking.training.flow_matching import FlowMatching
from fantasytalking.training.lora import LORA, add_lora
from fantasytalking.training.trainer.data_check import check_set
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import seeded
from fantasytalking.training.trainer.resuming import note_finished
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run
from fantasytalking.training.trainer.sources import BucketPlan
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["LatentSource", "adapter_source", "adapter_trainer", "build_model", "train_adapter"]


@dataclass(frozen=True)
class LatentSource:
    """Source of samples of a `LatentDataset`, in batches of one picture size and one window length.

    Attributes:
        dataset: Windows of clips.
        order: Batches of its clips, bucketed by (f, h, w).
        frames: Window lengths in latent frames, one of which is drawn for each step and limited to the length of the clips.
        seed: Seed of the draw of lengths.
    """

    dataset: LatentDataset
    order: BucketPlan
    frames: tuple[int, ...]
    seed: int = 0

    @property
    def fingerprint(self) -> str:
        """Checksum of the data."""
        return self.dataset.fingerprint

    def plan(self, step: int) -> list[Window]:
        """Keys of the global batch of a step."""
        clips = self.order(step)
        wanted = int(np.random.default_rng((self.seed, step, 1)).choice(self.frames))
        frames = min(wanted, self.dataset.sizes[clips[0]][0])
        return [Window(clip, frames) for clip in clips]

    def sample(self, key: Window, rng: np.random.Generator) -> Sample:
        """Draw one window."""
        return self.dataset.draw(key, rng)


def adapter_source(recipe: AdapterRecipe, dataset: LatentDataset) -> LatentSource:
    """Make a source with batches of `recipe.batch` clips; clips of a size that does not fill a batch are unused, unless no size does."""
    config, sizes = recipe.train, dataset.sizes
    fills = max(sizes.count(size) for size in set(sizes)) >= recipe.batch
    order = BucketPlan(sizes, dict.fromkeys(sizes, 1), recipe.batch, config.seed, keep_incomplete=not fills)
    return LatentSource(dataset, order, tuple(Strides().latent_frames(frames) for frames in config.frames), config.seed)


def build_model(base: Path, recipe: AdapterRecipe, prepared: PreparedSet) -> FantasyTalkingTransformer3DModel:
    """Load the base's transformer, add the parts that it lacks, and freeze all but the adapter (and LoRA).

    A new part does not change the output until it is trained. The same seed gives the same weights in every process.

    Args:
        base: Pipeline folder, or transformer of Wan or FantasyTalking in any layout.
        recipe: Sizes of missing parts, LoRA, precision and seed.
        prepared: Prepared set, which sets the widths of speech features and face embedding of missing parts.

    Raises:
        CheckpointError: The base cannot be read.
        InputError: The set was made for a model of other widths.
    """
    config = recipe.train
    sizes = check_model(base, recipe, prepared)
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    with seeded(config.seed, "adapter"):
        model = load_transformer(base, dtype, config=sizes)
    if recipe.lora is not None:
        with seeded(config.seed, "lora"):
            add_lora(model, recipe.lora)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) is not None or LORA in name)
    result: FantasyTalkingTransformer3DModel = model.train()
    return result


def _missing_parts(recipe: AdapterRecipe, held: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Sizes of the parts that the recipe asks for and the base lacks."""
    parts, sizes = recipe.parts, dict[str, Any]()
    if held.get("audio_dim") is None and parts.get("audio_dim") is not None and "speech.0" in arrays:
        sizes |= {"audio_dim": parts["audio_dim"], "audio_feature_dim": arrays["speech.0"].shape[1]}
    if held.get("identity_dim") is None and parts.get("identity_dim") is not None and "embedding" in arrays:
        sizes |= {name: value for name, value in parts.items() if name.startswith("identity")}
        sizes["identity_feature_dim"] = len(arrays["embedding"])
    if parts.get("motion") and not held.get("motion"):
        sizes["motion"] = True
    return sizes


def check_model(base: Path, recipe: AdapterRecipe, prepared: PreparedSet) -> dict[str, Any]:
    """Run the recipe's model through a made-up step of the set's sizes, without reading a weight (see `check_recipe`).

    Args:
        base: See `build_model`.
        recipe: See `build_model`.
        prepared: See `build_model`.

    Returns:
        Sizes of the parts that the recipe adds to the base.

    Raises:
        CheckpointError: The base cannot be read.
        InputError: The set was made for a model of other widths.
        SettingsError: The model cannot be trained on such samples, or has none of LoRA's layers.
    """
    clips = prepared.clips()
    arrays = prepared.arrays(clips[0].key) if clips else {}
    sizes = _missing_parts(recipe, open_transformer(base)[1], arrays)
    model = plan_transformer(base, config=sizes).model
    if "latents.0" not in arrays:
        return sizes  # the data set says what is missing
    _check_widths(model, arrays, prepared.folder)
    found = model.plain_config()
    longest = min(Strides().num_frames(arrays["latents.0"].shape[1]), max(recipe.train.frames))
    if longest < max(recipe.train.frames):
        show_note(
            f"the windows of {prepared.folder} have {longest} frames, so longer ones (train.frames) are cut to that."
        )
    samples = _sample_sizes(arrays, found)
    lengths = tuple(dict.fromkeys(min(longest, frames) for frames in recipe.train.frames))
    check_transformer(replace(recipe.train, model=found, frames=lengths), samples, model, recipe.lora)
    return sizes


def _sample_sizes(arrays: Mapping[str, Any], model: Mapping[str, Any]) -> SampleSizes:
    """Sizes of the samples that a set gives to a model of this configuration."""
    channels, _, height, width = arrays["latents.0"].shape
    image = arrays.get("image.0") if model["image_dim"] is not None else None
    text = arrays.get("text")
    return SampleSizes(
        latents=(channels, height, width),
        condition=arrays["condition.0"].shape[0],
        text=(1, model["text_dim"]) if text is None else (len(text), text.shape[1]),
        speech=arrays["speech.0"].shape[1] if "speech.0" in arrays else None,
        image=None if image is None else (len(image), image.shape[1]),
        identity=len(arrays["embedding"]) if model["identity_dim"] is not None else None,
        motion=bool(model["motion"]),
    )


def _check_widths(model: FantasyTalkingTransformer3DModel, arrays: dict[str, Any], folder: Path) -> None:
    config = model.config
    wanted = {
        "latents.0": (0, "latent channels", config.out_channels),
        "speech.0": (1, "speech features of width", config.audio_feature_dim if config.audio_dim else None),
        "text": (1, "text embeddings of width", config.text_dim),
        "image.0": (1, "image embeddings of width", config.image_dim),
        "embedding": (0, "face embeddings of width", config.identity_feature_dim),
    }
    for name, (axis, what, width) in wanted.items():
        if name in arrays and width is not None and arrays[name].shape[axis] != width:
            raise InputError(
                f"The prepared set '{folder}' has {what} {arrays[name].shape[axis]}, but the base model wants {width}; prepare the set "
                "with --model naming a pipeline of this base."
            )


def dataset_for(prepared: PreparedSet, sizes: Mapping[str, Any], continuation: float) -> LatentDataset:
    """Make a dataset of windows with the conditions that a model of this configuration takes.

    Args:
        prepared: Prepared set with latents.
        sizes: Configuration of the transformer.
        continuation: Share of windows whose first latent frames are given.
    """
    return LatentDataset(
        prepared,
        text_dim=sizes["text_dim"],
        image=sizes["image_dim"] is not None,
        identity=sizes["identity_dim"] is not None,
        motion=bool(sizes["motion"]),
        prefix=Prefix(continuation),
    )


def adapter_trainer(recipe: AdapterRecipe, data: Path, output: Path, base: Path, verify: bool = True) -> Trainer:
    """Make the trainer of a run, resumed from its newest checkpoint.

    Args:
        recipe: Recipe of the run.
        data: Prepared set with latents.
        output: Run folder.
        base: See `build_model`.
        verify: Whether the set is compared with its checksums, see `check_set`.

    Raises:
        InputError: There is no set, or it has no latents or was made for another model.
        CheckpointError: The base cannot be read, or the newest checkpoint does not fit.
        SettingsError: The run folder holds a run with another base, recipe or set.
    """
    check_output_folder(output, data, base=base)
    check_data(data, ("set",))
    check_means(recipe.train)
    prepared = PreparedSet.open(data)
    model = build_model(base, recipe, prepared)
    # not before, as it leaves its record in the run folder
    check_set(prepared, verify)
    sizes = model.plain_config()
    recipe = replace(recipe, train=replace(recipe.train, model=sizes))
    dataset = dataset_for(prepared, sizes, recipe.train.continuation)
    with main_process_first() as main:
        describe_run(output, recipe, base, prepared, write=main)
        if main:
            note_finished(RunFolder(output / RUN), recipe.train)
    source, objective = adapter_source(recipe, dataset), FlowMatching(recipe.train)
    return Trainer(model, source, objective, recipe.train, RunFolder(output / RUN))


@owns_run
def train_adapter(recipe: AdapterRecipe, data: Path, output: Path, base: Path, verify: bool = True) -> Path:
    """Train an adapter (and LoRA) and write its averaged weights; an interrupted run continues where it stopped.

    Every process of a distributed run must call this.

    Returns:
        ``output/adapter.safetensors``, with all trained parts under the model's own names; a run with LoRA also writes ``output/lora``.
        Other layouts are written by `fantasytalking.training.adapter.export_run.export_run`.

    Raises:
        InputError, CheckpointError, SettingsError: See `adapter_trainer`.
        OutputError: The run folder cannot be written.
        ResourceError: Training diverged.
    """
    trainer = adapter_trainer(recipe, data, output, base, verify)
    begin_phase(output, "transformer", first=True)
    trainer.train()
    begin_phase(output, "export")
    target = output / "adapter.safetensors"
    with main_process_first() as main:
        if main:
            export_run(output, target, "model", overwrite=True)
            if recipe.lora is not None:
                export_run(output, output / "lora", "lora", overwrite=True)
    return target
