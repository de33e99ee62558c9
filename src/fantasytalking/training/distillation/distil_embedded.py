"""Few-step distillation of the embedded model: from a model folder to one whose transformer needs only a few steps."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fantasytalking.data.motion_dataset import NO_AUGMENTATION
from fantasytalking.errors import CheckpointError, InputError
from fantasytalking.pipeline.model_names import INDEX, resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.json import write_json
from fantasytalking.training.check_folders import (
    check_data,
    check_output_folder,
    data_digest,
    keep_choices,
    model_digest,
)
from fantasytalking.training.check_recipe import check_means, check_transformer
from fantasytalking.training.distillation.distillation_recipes import DistillConfig
from fantasytalking.training.distillation.distillation_trainer import check_guidance, make_distiller, student_defaults
from fantasytalking.training.embedded.calibration import one_a_person
from fantasytalking.training.embedded.intensity_gains import fit_intensity_gains
from fantasytalking.training.embedded.mouth_validation import Validation
from fantasytalking.training.embedded.train_embedded import embedded_samples, make_dataset, window_source
from fantasytalking.training.embedded.training_tracks import TRUSTED, Material, load_material, measure
from fantasytalking.training.motion_percentiles import read_percentiles
from fantasytalking.training.trainer.callbacks import Validate
from fantasytalking.training.trainer.config import TrainConfig
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import undrawn
from fantasytalking.training.trainer.resuming import note_finished
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run

__all__ = ["distil_embedded", "export_student", "student_validation"]


@owns_run
def distil_embedded(config: DistillConfig, teacher: Path, data: Path, output: Path, verify: bool = True) -> Path:
    """Distil a model folder into one that needs few steps; an interrupted run continues where it stopped.

    Args:
        config: Configuration of the run.
        teacher: Model folder with a mesh autoencoder; all but its transformer and default settings is copied to the student.
        data: Prepared set, folder of videos with a catalogue, folder of face tracks, or run folder of `train_embedded`.
        output: Run folder; the model is written to ``output/model``.
        verify: Whether a prepared set is compared with its checksums, see `check_set`.

    Returns:
        The model folder.

    Raises:
        CheckpointError: The teacher cannot be loaded, or is not an embedded model.
        InputError: The data cannot be used.
        OutputError: The run folder cannot be made.
    """
    teacher = Path(resolve_model(str(teacher)))
    check_output_folder(output, data, teacher=teacher)
    check_means(config.train, shards=False)
    kind = check_data(data, ("set", "catalogue", "tracks"))
    with undrawn():
        pipeline = FantasyTalkingPipeline.from_pretrained(teacher)
    if not hasattr(pipeline.vae, "codec"):
        raise CheckpointError(
            f"The model in {teacher} has no mesh autoencoder, so face tracks cannot train its student; "
            "use the recipe distil-14b for a model of the released size."
        )
    model = pipeline.transformer
    config = replace(
        config, train=replace(config.train, model=model.plain_config(), identity_scale=_identity_scale(pipeline))
    )
    check_guidance(config, pipeline.vae.audio_channels, False, model.config.out_channels)
    check_transformer(config.train, embedded_samples(config.train.model, pipeline.vae.codec))
    with main_process_first() as main:
        keep_choices(output, {"teacher": model_digest(teacher), "data": data_digest(data, kind)}, write=main)
        if main:
            note_finished(RunFolder(output / "student"), config.train)
    begin_phase(output, "tracks", first=True)
    with main_process_first():
        material = _material(data, output, pipeline, teacher, verify)
    begin_phase(output, "student")
    source = window_source(material, config.train)
    validation = student_validation(material, config.train, config.student_steps)
    callbacks = [] if validation is None else [Validate(validation)]
    trainer = make_distiller(config, model, source, output / "student", pipeline.vae.audio_channels, None, callbacks)
    trainer.train()
    begin_phase(output, "export")
    student, target = trainer.averaged(), output / "model"
    with main_process_first() as main:
        if main:
            gains = _intensity_gains(student, material, config, pipeline)
            export_student(student, config, teacher, target, gains)
    return target


def _intensity_gains(
    student: Any, material: Material, config: DistillConfig, pipeline: FantasyTalkingPipeline
) -> dict[str, tuple[float, ...]]:
    """Gains of the intensities, which a student follows otherwise than its teacher."""
    dataset = make_dataset(material, material.train, min(config.train.frames), config.train, NO_AUGMENTATION)
    settings = pipeline.settings(batch_passes="off", **student_defaults(config))
    return fit_intensity_gains(student, dataset, one_a_person(dataset), settings)


def export_student(
    student: Any, config: DistillConfig, teacher: Path, target: Path, gains: Mapping[str, tuple[float, ...]]
) -> Path:
    """Write the teacher's folder with the student's weights, in half precision, settings and gains; it appears complete or not at all."""
    with atomic_folder(target) as temporary:
        shutil.copytree(teacher, temporary, ignore=shutil.ignore_patterns("transformer"), dirs_exist_ok=True)
        copy.deepcopy(student).half().save_pretrained(temporary / "transformer")
        index = json.loads((temporary / INDEX).read_text(encoding="utf-8"))
        index["defaults"] = {**(index.get("defaults") or {}), **student_defaults(config)}
        (temporary / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        described = temporary / "vae" / "config.json"
        own = json.loads(described.read_text(encoding="utf-8"))
        described.write_text(json.dumps({**own, **gains}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_json(temporary / "distillation.json", config.method(), indent=1)
    return target


def _identity_scale(pipeline: FantasyTalkingPipeline) -> float:
    return float(pipeline.settings().identity_scale)


def _material(data: Path, output: Path, pipeline: FantasyTalkingPipeline, teacher: Path, verify: bool) -> Material:
    """Load the training material with the codec and the intensity scale of the teacher."""
    codec = pipeline.vae.codec
    if (data / "manifest.json").exists() or (data / "catalogue.jsonl").exists():
        cache = output / "tracks"
        cache.mkdir(exist_ok=True)
        material = measure(data, cache, codec, verify).material
    else:
        folder = data / "tracks" if (data / "tracks").is_dir() else data
        if not any(folder.glob("*.safetensors")):
            raise InputError(
                f"{data} holds no training material; give a prepared set (with manifest.json), a folder of videos with "
                "catalogue.jsonl, a folder of face tracks, or the run folder that the teacher was trained in."
            )
        # The folder is another run's, so nothing is written there.
        material = load_material(folder, codec, report=output / "sync.json")
    intensity = read_percentiles(teacher)
    return material if intensity is None else replace(material, intensity=intensity)


def student_validation(material: Material, train: TrainConfig, steps: int) -> Validation | None:
    """Make the validation on real validation tracks; None if there are none."""
    real: Sequence[Any] = [t for t in material.val if t.kind == TRUSTED]
    dataset = make_dataset(material, real, min(train.frames), train, NO_AUGMENTATION)
    return Validation(dataset, train, guidance=1.0, steps=steps) if dataset.people.names else None
