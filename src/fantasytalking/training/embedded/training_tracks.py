"""Training data of the embedded model: the clips of a prepared set, or of a folder of talking videos that are measured here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.catalogue import read_catalogue
from fantasytalking.data.face_tracks import (
    SAME_PERSON,
    TRACK_FPS,
    FaceTrack,
    load_track,
    nearest_faces,
    prepare_tracks,
)
from fantasytalking.data.motion_dataset import IntensityScale, PreparedTrack, prepare, window_motion
from fantasytalking.errors import InputError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames
from fantasytalking.pipeline.model_names import EMBEDDED, resolve_model
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import write_json
from fantasytalking.training.embedded.fit_codec import fit_mesh_codec
from fantasytalking.training.embedded.linear_sync import fit_ridge, measure_sync
from fantasytalking.training.embedded.mouth_pairs import Frames, frames_in

if TYPE_CHECKING:
    from fantasytalking.data.prepared_set import PreparedSet

SPEECH_ENCODER = Path(resolve_model(EMBEDDED)) / "audio_encoder"
"""The Whisper encoder that comes with the package."""
# footage whose sync is known to be right, from which the ridge is fitted
TRUSTED = "real"
CANVAS = (6, 4)
COEFFICIENTS = 24


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


def load_material(cache: Path, start: MeshCodec | None = None, coefficients: int = COEFFICIENTS) -> Material:
    """Read cached tracks, put them in step, fit the codec; results are kept in the cache folder.

    Args:
        cache: folder of face tracks.
        start: codec of the model that training starts from; None: one is fitted.
        coefficients: of a fitted codec.

    Raises:
        InputError: the cache holds no training track, or none of them is usable.
    """
    tracks = [load_track(path) for path in sorted(cache.glob("[!.]*.safetensors"))]
    train, val = _splits(tracks, cache, "(left_out.json there says why clips were left out)")
    codec = start or _fitted_codec(train, cache / "codec.bin", coefficients)
    prepared = _in_step(train, cache / "sync.json")
    if not prepared:
        raise InputError(
            f"In none of the {len(train)} training clips of {cache} the mouth follows the speech while the face stays in view; "
            "sync.json there says what was measured."
        )
    intensity = _fit_intensity(prepared, codec)
    return Material(codec, prepared, [prepare(t) for t in val], intensity, train[0].speech.shape[1])


def set_material(prepared: PreparedSet, cache: Path, start: MeshCodec | None = None) -> Material:
    """The material of a prepared set, whose clips are in step already.

    Args:
        prepared: made by `fantasytalking prepare`.
        cache: where the fitted codec is kept.
        start: as in `load_material`.

    Raises:
        InputError: the set was made for another kind of model, or holds no clip of the training split.
    """
    from fantasytalking.data.prepared_set import face_tracks

    made_for = prepared.manifest.model
    if made_for.frame_rate != TRACK_FPS or made_for.encoders.get("audio_encoder") != "WhisperEncoder":
        raise InputError(
            f"The prepared set {prepared.folder} was made for the model '{made_for.name}' at {made_for.frame_rate or 0:g} frames a "
            f"second, but the embedded model wants {TRACK_FPS:g} and Whisper features; prepare the videos with --model embedded."
        )
    tracks = [*face_tracks(prepared, "train"), *face_tracks(prepared, "val")]
    train, val = _splits(tracks, prepared.folder, "(its report says why clips were dropped)")
    codec = start or _fitted_codec(train, cache / "codec.bin")
    ready = [prepare(t) for t in train]
    return Material(codec, ready, [prepare(t) for t in val], _fit_intensity(ready, codec), train[0].speech.shape[1])


def _splits(tracks: Sequence[FaceTrack], where: Path, hint: str) -> tuple[list[FaceTrack], list[FaceTrack]]:
    """Training and validation tracks, without training tracks of a validation person."""
    train = [t for t in tracks if t.info.split == "train"]
    val = [t for t in tracks if t.info.split == "val"]
    if not train:
        raise InputError(
            f"{where} holds no face track of the training split; give it clips of split train with a face and sound {hint}."
        )
    train = without_leaks(train, val)
    if not train:
        raise InputError(
            f"Every training clip of {where} shows a person of the validation clips; give the two splits different people."
        )
    return train, val


def _fitted_codec(train: Sequence[FaceTrack], stored: Path, coefficients: int = COEFFICIENTS) -> MeshCodec:
    codec = MeshCodec(coefficients, *CANVAS)
    if stored.exists():
        codec.load_state_dict(load_file(stored))
    else:
        fit_mesh_codec(codec, train)
        with atomic_path(stored, overwrite=True) as temporary:
            save_file(codec.state_dict(), temporary)
    return codec


def without_leaks(train: Sequence[FaceTrack], val: Sequence[FaceTrack]) -> list[FaceTrack]:
    """Training tracks whose face is in no validation track, by the embedding: catalogues name clips, not people."""
    cosines = nearest_faces([t.embedding for t in train], [t.embedding for t in val])
    return [t for t, cosine in zip(train, cosines, strict=True) if cosine < SAME_PERSON]


def _in_step(tracks: Sequence[FaceTrack], report: Path) -> list[PreparedTrack]:
    ridge = fit_ridge([t for t in tracks if t.info.kind == TRUSTED] or tracks)
    prepared, rows = [], {}
    for track in tracks:
        measured = measure_sync(track, ridge)
        rows[track.info.file] = asdict(measured)
        steady = float((track.scores < 0.5).mean()) < 0.05
        if measured.keep and steady:
            prepared.append(prepare(track, measured.offset))
    write_json(report, rows, indent=1)
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


@dataclass
class Footage:
    """Material of a run and the videos behind it.

    Attributes:
        material: tracks, codec, intensities.
        frames: pictures of the tracks, for the mouth painter.
        sound: a track's speech from its video, in step with the face.
        fingerprint: SHA-256 over the set's shards, or of the catalogue.
    """

    material: Material
    frames: Frames
    sound: Callable[[PreparedTrack], Audio]
    fingerprint: str


def measure(data: Path, cache: Path, start: MeshCodec | None = None) -> Footage:
    """The material of a prepared set (a folder with ``manifest.json``), or of a folder of videos with ``catalogue.jsonl``.

    Args:
        data: the folder. Videos of a catalogue are measured here, into `cache`, and what is out of step is found by a linear model.
        cache: folder for measurements and the fitted codec.
        start: codec of the model that training starts from; None: one is fitted.

    Raises:
        InputError: neither of the two, or no clip can be used.
    """
    if (data / "manifest.json").is_file():
        from fantasytalking.data.prepared_set import PreparedSet

        prepared = PreparedSet.open(data)
        material = set_material(prepared, cache, start)
        return Footage(material, frames_of_set(prepared), sound_of_set(prepared), prepared.fingerprint)
    catalogue = data / "catalogue.jsonl"
    clips = read_catalogue(catalogue)
    prepare_tracks(data, cache, SpeechEncoder.from_pretrained(SPEECH_ENCODER), clips)

    def sound(track: PreparedTrack) -> Audio:
        return load_audio(data / track.name, max_seconds=None, min_seconds=0.0)

    return Footage(load_material(cache, start), frames_in(data), sound, file_sha256(catalogue))


def frames_of_set(prepared: PreparedSet) -> Frames:
    """Frames of a set's clips, whose tracks are named after their keys."""

    def read(track: PreparedTrack, count: int) -> NDArray[np.uint8]:
        with _as_file(prepared, track, "mp4") as path:
            return read_frames(path, fps=TRACK_FPS, max_frames=count)[0]

    return read


def sound_of_set(prepared: PreparedSet) -> Callable[[PreparedTrack], Audio]:
    """Speech of a set's clips."""

    def read(track: PreparedTrack) -> Audio:
        with _as_file(prepared, track, "flac") as path:
            return load_audio(path, max_seconds=None, min_seconds=0.0)

    return read


@contextmanager
def _as_file(prepared: PreparedSet, track: PreparedTrack, extension: str) -> Iterator[str]:
    """A part of a clip as a file for the time of the block."""
    with tempfile.NamedTemporaryFile(suffix=f".{extension}") as file:
        file.write(prepared.bytes(track.name.removesuffix(".mp4"), extension))
        file.flush()
        yield file.name
