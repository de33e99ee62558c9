"""Training the embedded model from a folder of talking videos: tracks, codec, transformer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.conditioning.audio import SpeechEncoder
from fantasytalking.data.motion_dataset import (
    NO_AUGMENTATION,
    Augmentation,
    IntensityScale,
    MotionDataset,
    PreparedTrack,
    prepare,
    window_motion,
)
from fantasytalking.data.tracks import TRACK_FPS, FaceTrack, load_track, prepare_tracks, read_catalogue
from fantasytalking.errors import InputError, OutputError
from fantasytalking.training.codec import fit_mesh_codec
from fantasytalking.training.config import Recipe, TrainConfig
from fantasytalking.training.export import export_embedded
from fantasytalking.training.loop import Trainer
from fantasytalking.training.painter import MouthPairs, collect_pairs, train_painter
from fantasytalking.training.state import RunFolder
from fantasytalking.training.sync import fit_ridge, measure_sync
from fantasytalking.training.validation import Validation

SPEECH_ENCODER = Path(str(files("fantasytalking") / "models" / "demo" / "audio_encoder"))
"""The Whisper encoder that comes with the package."""
# footage whose sync is known to be right, from which the ridge is fitted
TRUSTED = "real"
SAME_PERSON = 0.5
"""Cosine of face embeddings above which two clips are taken to show one person."""


@dataclass
class Material:
    """Everything that is measured once before training.

    Attributes:
        codec: fitted to the training split.
        train, val: prepared tracks, in step, clips out of sync left out of `train`.
        intensity: percentile scale of the training windows.
        speech_dim: width of the speech features.
    """

    codec: MeshCodec
    train: list[PreparedTrack]
    val: list[PreparedTrack]
    intensity: IntensityScale
    speech_dim: int


def load_material(cache: Path, height: int = 6, width: int = 4, coefficients: int = 24) -> Material:
    """Read cached tracks, put them in step, fit the codec; results are kept in the cache folder.

    Raises:
        InputError: the cache holds no training track, or none of them is usable.
    """
    tracks = [load_track(path) for path in sorted(cache.glob("*.safetensors"))]
    train = [t for t in tracks if t.info.split == "train"]
    val = [t for t in tracks if t.info.split == "val"]
    if not train:
        raise InputError(
            f"{cache} holds no face track of the training split; give the catalogue clips of split train with a face and sound "
            "(left_out.json there says why clips were left out)."
        )
    train = without_leaks(train, val)
    if not train:
        raise InputError(
            f"Every training clip of {cache} shows a person of the validation clips; give the two splits different people."
        )
    codec = MeshCodec(coefficients, height, width)
    stored = cache / "codec.bin"
    if stored.exists():
        codec.load_state_dict(load_file(stored))
    else:
        fit_mesh_codec(codec, train)
        save_file(codec.state_dict(), stored.with_suffix(".part"))
        stored.with_suffix(".part").replace(stored)
    prepared = _in_step(train, cache / "sync.json")
    if not prepared:
        raise InputError(
            f"In none of the {len(train)} training clips of {cache} the mouth follows the speech while the face stays in view; "
            "sync.json there says what was measured."
        )
    intensity = _fit_intensity(prepared, codec)
    return Material(codec, prepared, [prepare(t) for t in val], intensity, train[0].speech.shape[1])


def without_leaks(train: Sequence[FaceTrack], val: Sequence[FaceTrack]) -> list[FaceTrack]:
    """Training tracks whose face is in no validation track, by the embedding: catalogues name clips, not people."""
    if not val:
        return list(train)
    faces = np.stack([t.embedding for t in val])
    return [t for t in train if float((faces @ t.embedding).max()) < SAME_PERSON]


def _in_step(tracks: Sequence[FaceTrack], report: Path) -> list[PreparedTrack]:
    ridge = fit_ridge([t for t in tracks if t.info.kind == TRUSTED] or tracks)
    prepared, rows = [], {}
    for track in tracks:
        measured = measure_sync(track, ridge)
        rows[track.info.file] = asdict(measured)
        steady = float((track.scores < 0.5).mean()) < 0.05
        if measured.keep and steady:
            prepared.append(prepare(track, measured.offset))
    report.write_text(json.dumps(rows, indent=1))
    return prepared


def _fit_intensity(tracks: Sequence[PreparedTrack], codec: MeshCodec, frames: int = 73) -> IntensityScale:
    raw = []
    for track in tracks:
        for start in range(0, len(track.points) - frames, 2 * frames):
            points = track.points[start : start + frames]
            raw.append(window_motion(codec, codec.parameters_of(points, points[0])))
    if not raw:
        return IntensityScale(torch.linspace(0, 1, 21)[:, None].repeat(1, 2))
    return IntensityScale.fit(torch.stack(raw))


def make_dataset(
    material: Material, tracks: Sequence[PreparedTrack], frames: int, config: TrainConfig, augmentation: Augmentation
) -> MotionDataset:
    """Windows of one length over tracks."""
    text = torch.zeros(1, config.model["text_dim"])
    identity = config.model.get("identity_dim") is not None
    return MotionDataset(
        tracks, material.codec, frames, material.intensity, augmentation, config.generated_weight, text, identity
    )


def make_trainer(material: Material, config: TrainConfig, run: Path) -> Trainer:
    """A trainer over the training tracks that validates on real validation tracks.

    Raises:
        InputError: no training clip is as long as a window.
    """
    draws = {}
    for frames in sorted(set(config.frames)):
        dataset = make_dataset(material, material.train, frames, config, Augmentation())
        if not dataset.names:
            raise InputError(
                f"Training windows are {frames} frames long, but no usable clip reaches {1.1 * frames / TRACK_FPS:.1f} s; "
                "add longer clips."
            )
        draws[frames] = dataset.draw
    real = [t for t in material.val if t.kind == TRUSTED]
    shortest = min(config.frames)
    dataset = make_dataset(material, real, shortest, config, NO_AUGMENTATION)
    validate = Validation(dataset, config.shift) if dataset.names else None
    return Trainer(config, draws, RunFolder(run), validate)


def train_embedded(recipe: Recipe, data: Path, output: Path) -> Path:
    """Videos to model folder; every part goes on where it was stopped.

    Args:
        recipe: what to train and for how long.
        data: folder with ``catalogue.jsonl`` and the videos that it names.
        output: run folder; the model is written to ``output/model``.

    Returns:
        The model folder.

    Raises:
        InputError: no catalogue, or no clip of it can be used.
        OutputError: the run folder cannot be made.
    """
    clips = read_catalogue(data / "catalogue.jsonl")
    tracks = output / "tracks"
    try:
        tracks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The run folder {output} cannot be made ({error}); give a folder that can be written."
        ) from error
    encoder = SpeechEncoder.from_pretrained(SPEECH_ENCODER)
    prepare_tracks(data, tracks, encoder, clips)
    material = load_material(tracks)
    trainer = make_trainer(material, recipe.transformer, output / "transformer")
    trainer.train()
    stored = output / "mouth_pairs.npz"
    if not stored.exists():
        collect_pairs(data, material.train, material.codec, recipe.pairs_per_identity).save(stored)
    painter = MouthPainter()
    checkpoint = output / "painter.pt"
    train_painter(painter, MouthPairs.load(stored), recipe.painter_steps, recipe.painter_batch, checkpoint=checkpoint)
    model = output / "model"
    return export_embedded(trainer.averaged(), material.codec, painter, material.intensity, SPEECH_ENCODER, model)
