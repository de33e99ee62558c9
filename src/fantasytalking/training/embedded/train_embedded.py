"""Training of the embedded model: mouth painter, transformer, and the resulting model folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.motion_dataset import NO_AUGMENTATION, Augmentation, Continuation, MotionDataset, PreparedTrack
from fantasytalking.errors import CheckpointError, InputError, SettingsError
from fantasytalking.pipeline.model_folder import check_weights
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.files import atomic_folder
from fantasytalking.training.check_folders import (
    check_data,
    check_output_folder,
    keep_choices,
    make_run_folder,
    model_digest,
)
from fantasytalking.training.check_recipe import SampleSizes, check_means, check_transformer
from fantasytalking.training.embedded.articulation_loss import ArticulationMatching
from fantasytalking.training.embedded.calibration import calibrate
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_MODEL, OPENING_WEIGHT, EmbeddedRecipe
from fantasytalking.training.embedded.export_model import DEFAULTS, export_embedded
from fantasytalking.training.embedded.mouth_validation import Validation
from fantasytalking.training.embedded.packed_material import load_packed, packed_fingerprint, save_packed
from fantasytalking.training.embedded.painter_part import collect_run_pairs, train_run_painter
from fantasytalking.training.embedded.training_tracks import (
    CANVAS,
    COEFFICIENTS,
    SPEECH_ENCODER,
    TRUSTED,
    Material,
    measure,
)
from fantasytalking.training.embedded.validation_clips import show_validation
from fantasytalking.training.trainer.callbacks import Callback, Validate
from fantasytalking.training.trainer.config import MAY_CHANGE, TrainConfig, differences, load_config
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.loop import Trainer
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import seeded, undrawn
from fantasytalking.training.trainer.resuming import note_finished
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run
from fantasytalking.training.trainer.sources import WindowSource
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

PACKED = "material.bin"
AVERAGED = "averaged"


def make_dataset(
    material: Material, tracks: Sequence[PreparedTrack], frames: int, config: TrainConfig, augmentation: Augmentation
) -> MotionDataset:
    """Make a dataset of windows of one length from tracks."""
    text = torch.zeros(1, config.model["text_dim"])
    identity = config.model.get("identity_dim") is not None
    continuation = Continuation(0.0 if augmentation == NO_AUGMENTATION else config.continuation)
    return MotionDataset(
        tracks,
        material.codec,
        frames,
        material.intensity,
        augmentation,
        config.generated_weight,
        text,
        identity,
        continuation,
        bool(config.model.get("motion")),
    )


def window_source(material: Material, config: TrainConfig, fingerprint: str | None = None) -> WindowSource:
    """Make a source of random windows of the training tracks, for the lengths that at least one clip reaches.

    Args:
        material: Material of the run.
        config: Configuration of the run.
        fingerprint: Checksum of the data; None if unknown.

    Raises:
        InputError: No training clip is as long as the shortest window.
    """
    datasets = {
        frames: make_dataset(material, material.train, frames, config, Augmentation())
        for frames in sorted(set(config.frames))
    }
    draws = {frames: dataset.draw for frames, dataset in datasets.items() if dataset.people.names}
    shortest = min(config.frames)
    if shortest not in draws:
        raise InputError(
            f"Training windows are at least {shortest} frames long, but no usable clip reaches "
            f"{datasets[shortest].least / TRACK_FPS:.2f} s; add longer clips, or give shorter windows with --train.frames."
        )
    for frames in sorted(set(config.frames) - draws.keys()):
        show_note(f"no clip is long enough for windows of {frames} frames; shorter ones are used.")
    lengths = tuple(frames for frames in config.frames if frames in draws)
    return WindowSource(draws, lengths, config.batch_tokens, config.seed, fingerprint)


def make_trainer(
    material: Material,
    config: TrainConfig,
    run: Path,
    start: FantasyTalkingTransformer3DModel | None = None,
    callbacks: Sequence[Callback] = (),
    fingerprint: str | None = None,
    source: WindowSource | None = None,
    opening_weight: float = OPENING_WEIGHT,
) -> Trainer:
    """Make a trainer on the training tracks that validates on real validation tracks.

    Args:
        material: Material of the run.
        config: Configuration of the run.
        run: Folder of the run.
        start: Model whose weights training starts from; None trains from scratch.
        callbacks: Further hooks, in addition to the validation.
        fingerprint: Checksum of the data; None if unknown.
        source: Source of windows; None makes one.
        opening_weight: Weight of the loss on the mouth's opening.

    Raises:
        InputError: No training clip is as long as a window.
    """
    source = window_source(material, config, fingerprint) if source is None else source
    real = [t for t in material.val if t.kind == TRUSTED]
    shortest = min(config.frames)
    dataset = make_dataset(material, real, shortest, config, NO_AUGMENTATION)
    validation = [Validate(Validation(dataset, config))] if dataset.people.names else []
    model = fresh_transformer(config) if start is None else start
    objective = ArticulationMatching(config, material.codec, opening_weight)
    return Trainer(model, source, objective, config, RunFolder(run), [*validation, *callbacks])


def fresh_transformer(config: TrainConfig) -> FantasyTalkingTransformer3DModel:
    """Make an untrained transformer, the same in every process."""
    with seeded(config.seed, "transformer"):
        result: FantasyTalkingTransformer3DModel = FantasyTalkingTransformer3DModel(**config.model)
    return result


@owns_run
def train_embedded(
    recipe: EmbeddedRecipe,
    data: Path,
    output: Path,
    measure_video: Callable[[Path], Mapping[str, float]] | None = None,
    verify: bool = True,
) -> Path:
    """Train a model folder from videos; an interrupted run continues where it stopped.

    Args:
        recipe: Recipe of the run.
        data: Prepared set, or folder with ``catalogue.jsonl`` and the videos that it names; the parts painter and transformer
            do not read it.
        output: Run folder; the model is written to ``output/model``.
        measure_video: Function from a validation video to figures by name; None renders the videos without measuring them.
        verify: Whether a prepared set is compared with its checksums, see `check_set`.

    Returns:
        The model folder; of a part, its own folder.

    Raises:
        InputError: There is neither a set nor a catalogue, or none of its clips can be used.
        OutputError: The run folder cannot be made.
    """
    start = check_embedded(recipe, data, output)
    tracks = make_run_folder(output, "tracks")
    begin, packed = partial(begin_phase, output), tracks / PACKED
    if not recipe.reads_data:
        return _part_without_data(recipe, packed, output, start)
    begin("tracks", first=True)
    with main_process_first() as main:
        codec = None if start is None else start.vae.codec
        footage = measure(data, tracks, codec, recipe.train.seed, begin, verify=verify)
        if main and recipe.part == "measure":
            save_packed(footage.material, packed, footage.fingerprint)
    material, config = footage.material, _with_start(recipe.train, start)
    # raises before the painter is trained if clips are too short
    source = window_source(material, config, footage.fingerprint)
    makes_painter = recipe.painter_steps > 0 or start is None
    if makes_painter:
        collect_run_pairs(recipe, footage, output)
    if recipe.part == "measure":
        return output
    painter = (
        train_run_painter(recipe, footage.fingerprint, output) if start is None or makes_painter else start.vae.painter
    )
    shown = [videos for videos in [show_validation(footage, painter, measure_video)] if videos is not None]
    averaged = _train_transformer(recipe, material, footage.fingerprint, output, start, source, shown)
    begin("calibration")
    dataset = make_dataset(material, material.train, min(config.frames), config, NO_AUGMENTATION)
    with main_process_first() as main:
        gains = calibrate(averaged, dataset, config, DEFAULTS["w_face"])
        begin("export")
        if main:
            made = averaged, dataset.codec, painter, material.intensity, SPEECH_ENCODER
            export_embedded(*made, output / "model", gains)
    return output / "model"


def _part_without_data(
    recipe: EmbeddedRecipe, packed: Path, output: Path, start: FantasyTalkingPipeline | None
) -> Path:
    """Train the painter or the transformer from what the part measure left; returns the folder of that part."""
    if recipe.part == "painter":
        train_run_painter(recipe, packed_fingerprint(packed), output)
    else:
        _train_transformer(recipe, *load_packed(packed, COEFFICIENTS, CANVAS), output, start)
    return output / recipe.part


def _train_transformer(
    recipe: EmbeddedRecipe,
    material: Material,
    fingerprint: str,
    output: Path,
    start: FantasyTalkingPipeline | None,
    source: WindowSource | None = None,
    callbacks: Sequence[Callback] = (),
) -> FantasyTalkingTransformer3DModel:
    """Train the transformer, or resume its training; returns it with its averaged weights.

    Where another machine trained it (part transformer), its weights are read.

    Raises:
        SettingsError: That run had another configuration.
        CheckpointError: The weights cannot be read.
    """
    config, finished = _with_start(recipe.train, start), output / "transformer" / AVERAGED
    if finished.is_dir():
        _check_same(config, output / "transformer" / "config.json")
        return _averaged_elsewhere(finished)
    begin_phase(output, "transformer")
    first = None if start is None else start.transformer.float()
    trainer = make_trainer(
        material, config, output / "transformer", first, callbacks, fingerprint, source, recipe.opening_weight
    )
    trainer.train()
    averaged: FantasyTalkingTransformer3DModel = trainer.averaged()
    if recipe.part == "transformer":
        with main_process_first() as main:
            if main:
                with atomic_folder(finished) as temporary:
                    averaged.half().save_pretrained(temporary)
    return averaged


def _averaged_elsewhere(folder: Path) -> FantasyTalkingTransformer3DModel:
    """Read the averaged weights of a transformer that another machine trained."""
    try:
        read: FantasyTalkingTransformer3DModel = FantasyTalkingTransformer3DModel.from_pretrained(folder)
        check_weights(folder.parent, folder.name, read)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise CheckpointError(
            f"The transformer in {folder} cannot be read ({reason}); copy it here again, or delete the folder to train it here."
        ) from error
    read.float().eval().register_to_config(_name_or_path="")  # which would be exported
    return read


def _check_same(config: TrainConfig, stored: Path) -> None:
    """Raise SettingsError where a transformer that was trained elsewhere had another configuration."""
    there, now = (json.loads(json.dumps(asdict(one))) for one in (load_config(TrainConfig, stored), config))
    found = [row for row in differences(there, now) if row.partition(":")[0] not in MAY_CHANGE]
    if found:
        raise SettingsError(
            f"The transformer in {stored.parent} was trained with other settings ({'; '.join(found)}); give the same ones, or another "
            "--output."
        )


def check_embedded(recipe: EmbeddedRecipe, data: Path, output: Path) -> FantasyTalkingPipeline | None:
    """Check recipe, folders and model of a run before anything is measured; load the model that it starts from.

    Raises:
        SettingsError: The model cannot be trained, or the run was begun with other choices.
        CheckpointError: The start cannot be loaded, or is no embedded model.
        InputError: There is neither a set nor a catalogue.
        OutputError: The run folder lies in the data, or cannot be made.
    """
    check_output_folder(output, data, start=recipe.start)
    if recipe.reads_data:
        check_data(data, ("set", "catalogue"))
    check_means(recipe.train)
    start = load_start(recipe.start) if recipe.start else None
    config = _with_start(recipe.train, start)
    codec = MeshCodec(COEFFICIENTS, *CANVAS) if start is None else start.vae.codec
    check_transformer(config, embedded_samples(config.model, codec))
    choices = {
        "painter_steps": recipe.painter_steps,
        "pairs_per_identity": recipe.pairs_per_identity,
        "opening_weight": recipe.opening_weight,
        "start": model_digest(recipe.start) if recipe.start else "",
    }
    longer = recipe.train.allow_changes and recipe.painter_steps > 0 and (output / "painter").is_dir()
    with main_process_first() as main:
        keep_choices(output, choices, allowed=("painter_steps",) if longer else (), write=main)
        if main:
            note_finished(RunFolder(output / "transformer"), config)
    return start


def embedded_samples(model: Mapping[str, Any], codec: MeshCodec) -> SampleSizes:
    """Sizes of the samples of an embedded model: its codec's latents, Whisper's features, the bundled face embedding."""
    lacking = [name for name in ("text_dim",) if name not in model]
    if lacking:
        raise SettingsError(f"train.model lacks {lacking[0]}; give it, such as {EMBEDDED_MODEL[lacking[0]]}.")
    channels = EMBEDDED_MODEL["out_channels"]
    return SampleSizes(
        latents=(channels, codec.height, codec.width),
        condition=EMBEDDED_MODEL["in_channels"] - channels,
        text=(1, model["text_dim"]),
        speech=EMBEDDED_MODEL["audio_feature_dim"],
        identity=None if model.get("identity_dim") is None else EMBEDDED_MODEL["identity_feature_dim"],
        motion=bool(model.get("motion")),
    )


def _with_start(config: TrainConfig, start: FantasyTalkingPipeline | None) -> TrainConfig:
    """The configuration with the sizes of the model that the run starts from."""
    return config if start is None else replace(config, model=start.transformer.plain_config())


def load_start(name: str) -> FantasyTalkingPipeline:
    """Load the embedded model that training starts from.

    Raises:
        CheckpointError: It cannot be loaded, or it has no mesh autoencoder.
    """
    with undrawn():
        start = FantasyTalkingPipeline.from_pretrained(name)
    if not hasattr(start.vae, "codec"):
        raise CheckpointError(
            f"Training of the embedded model cannot start from '{name}', which has no mesh autoencoder; give embedded or a model that the "
            "recipe embedded made."
        )
    return start
