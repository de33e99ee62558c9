"""Training data of the embedded model, from a prepared set or from a folder of talking videos that are measured here."""

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
from torch import Tensor

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
from fantasytalking.data.motion_dataset import RANKS, IntensityScale, PreparedTrack, prepare, window_motion
from fantasytalking.errors import InputError
from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.video import read_frames
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.checked_arrays import read_arrays, save_arrays
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.files import full_disk_error
from fantasytalking.system.json import write_json
from fantasytalking.training.embedded.fit_codec import fit_mesh_codec
from fantasytalking.training.embedded.linear_sync import fit_ridge, measure_sync
from fantasytalking.training.embedded.mouth_pairs import Frames, frames_in
from fantasytalking.training.trainer.random_draws import part_seed

if TYPE_CHECKING:
    from fantasytalking.data.prepared_set import PreparedSet

SPEECH_ENCODER = embedded_folder() / "audio_encoder"
"""Folder of the Whisper encoder that ships with the package."""
# Kind of footage whose sync is known to be correct; the ridge is fitted to it.
TRUSTED = "real"
CANVAS = (6, 4)
COEFFICIENTS = 24


@dataclass
class Material:
    """Material for training the embedded model, measured once in advance.

    Attributes:
        codec: Codec fitted to the training split.
        train: Prepared training tracks, in sync; clips that could not be synchronised are left out.
        val: Prepared validation tracks.
        intensity: Percentile scale of the motion of the training windows.
        speech_dim: Width of the speech features.
    """

    codec: MeshCodec
    train: list[PreparedTrack]
    val: list[PreparedTrack]
    intensity: IntensityScale
    speech_dim: int


def _ignore(phase: str) -> None:
    pass


def load_material(
    cache: Path,
    start: MeshCodec | None = None,
    coefficients: int = COEFFICIENTS,
    seed: int = 0,
    begin: Callable[[str], None] = _ignore,
    report: Path | None = None,
) -> Material:
    """Read cached tracks, synchronise them and fit the codec; results are stored in the cache folder.

    Args:
        cache: Folder of face tracks.
        start: Codec of the model that training starts from; None fits one.
        coefficients: Number of expression coefficients of a fitted codec.
        seed: Seed of the run.
        begin: Called with "codec" before the codec is fitted.
        report: File for the sync of each clip; None takes ``sync.json`` in the cache folder.

    Raises:
        InputError: The cache holds no training track, or none of them is usable.
    """
    tracks = [load_track(path) for path in sorted(cache.glob("[!.]*.safetensors"))]
    train, val = _splits(tracks, cache, "(left_out.json there says why clips were left out)")
    if start is None:
        begin("codec")
    codec = start or _fitted_codec(train, cache / "codec.bin", seed, coefficients)
    report = report or cache / "sync.json"
    prepared = _in_step(train, report)
    if not prepared:
        raise InputError(
            f"In none of the {len(train)} training clips of {cache} does the mouth follow the speech while the face stays in view; see "
            f"{report} for the measurements, and add clips that are in sync."
        )
    intensity = _fit_intensity(prepared, codec)
    return Material(codec, prepared, [prepare(t) for t in val], intensity, train[0].speech.shape[1])


def set_material(
    prepared: PreparedSet,
    cache: Path,
    start: MeshCodec | None = None,
    seed: int = 0,
    begin: Callable[[str], None] = _ignore,
) -> Material:
    """Load the material of a prepared set, whose clips are already in sync.

    Args:
        prepared: Prepared set, made by `fantasytalking prepare`.
        cache: Folder for the fitted codec.
        start: See `load_material`.
        seed: Seed of the run.
        begin: See `load_material`.

    Raises:
        InputError: The set was made for another kind of model, or holds no clip of the training split.
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
    if start is None:
        begin("codec")
    codec = start or _fitted_codec(train, cache / "codec.bin", seed)
    ready = [prepare(t) for t in train]
    return Material(codec, ready, [prepare(t) for t in val], _fit_intensity(ready, codec), train[0].speech.shape[1])


def _splits(tracks: Sequence[FaceTrack], where: Path, hint: str) -> tuple[list[FaceTrack], list[FaceTrack]]:
    """Split tracks into training and validation, without training tracks that show a person of the validation split."""
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


def _fitted_codec(train: Sequence[FaceTrack], stored: Path, seed: int, coefficients: int = COEFFICIENTS) -> MeshCodec:
    codec = MeshCodec(coefficients, *CANVAS)
    try:
        if stored.exists():
            arrays = read_arrays(stored)[0]
            codec.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
            return codec
    except (InputError, RuntimeError) as error:  # torch's, of other names or shapes
        reason = " ".join(str(error).split())
        show_note(f"The codec {stored} cannot be used ({reason}); it is fitted again.")
    fit_mesh_codec(codec, train, seed=part_seed(seed, "codec"))
    save_arrays(stored, {name: value.numpy() for name, value in codec.state_dict().items()})
    return codec


def without_leaks(train: Sequence[FaceTrack], val: Sequence[FaceTrack]) -> list[FaceTrack]:
    """Select the training tracks whose face, by its embedding, is in no validation track; catalogues name clips, not people."""
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
    """Fit the scale of motion over people, every person counting the same: 0.5 is the median person.

    Footage by the hour is of people who sit still before a camera, and its median would be a dull speaker.
    """
    windows: dict[str, list[Tensor]] = {}
    for track in tracks:
        for start in range(0, len(track.points) - frames, 2 * frames):
            described = track.described(codec, None)
            some = slice(start, start + frames)
            pose = described.motion[some].pose_relative_to(described.motion[start])
            raw = window_motion(codec, torch.cat([described.expression[some], pose], -1))
            windows.setdefault(track.identity, []).append(raw)
    if not windows:
        return IntensityScale(torch.linspace(0, 1, RANKS)[:, None].repeat(1, 2))
    ranks = torch.linspace(0, 1, RANKS)
    people = torch.stack([torch.quantile(torch.stack(rows), ranks, dim=0) for rows in windows.values()])
    return IntensityScale(torch.quantile(people.flatten(0, 1), ranks, dim=0))


@dataclass
class Footage:
    """Material of a run with access to its videos.

    Attributes:
        material: Tracks, codec and intensity scale.
        frames: Reader of the tracks' video frames, for the mouth painter.
        sound: Function that reads the sound of a track's video.
        fingerprint: SHA-256 of the set's shards or of the catalogue.
    """

    material: Material
    frames: Frames
    sound: Callable[[PreparedTrack], Audio]
    fingerprint: str


def measure(
    data: Path,
    cache: Path,
    start: MeshCodec | None = None,
    seed: int = 0,
    begin: Callable[[str], None] = _ignore,
    *,
    verify: bool = True,
) -> Footage:
    """Load the material of a prepared set (a folder with ``manifest.json``), or of a folder of videos with ``catalogue.jsonl``.

    Videos of a catalogue are measured here, and a linear model finds those that are out of sync.

    Args:
        data: The folder.
        cache: Folder for measurements and the fitted codec.
        start: Codec of the model that training starts from; None fits one.
        seed: Seed of the run.
        begin: See `load_material`.
        verify: Whether a set is compared with its checksums.

    Raises:
        InputError: The folder is neither of the two, or no clip can be used, or the set is damaged.
    """
    if (data / "manifest.json").is_file():
        from fantasytalking.data.prepared_set import PreparedSet
        from fantasytalking.training.trainer.data_check import check_set

        prepared = PreparedSet.open(data)
        check_set(prepared, verify)
        material = set_material(prepared, cache, start, seed, begin)
        return Footage(material, frames_of_set(prepared), sound_of_set(prepared), prepared.fingerprint)
    catalogue = data / "catalogue.jsonl"
    clips = read_catalogue(catalogue)
    prepare_tracks(data, cache, SpeechEncoder.from_pretrained(SPEECH_ENCODER), clips)

    def sound(track: PreparedTrack) -> Audio:
        return load_audio(data / track.name, min_seconds=0.0, start=track.first / TRACK_FPS)

    return Footage(load_material(cache, start, seed=seed, begin=begin), frames_in(data), sound, file_sha256(catalogue))


def frames_of_set(prepared: PreparedSet) -> Frames:
    """Make a reader of the frames of a set's clips, whose tracks are named after the clip keys."""

    def read(track: PreparedTrack, count: int) -> NDArray[np.uint8]:
        with _as_file(prepared, track, "mp4") as path:
            return read_frames(path, fps=TRACK_FPS, max_frames=count)[0]

    return read


def sound_of_set(prepared: PreparedSet) -> Callable[[PreparedTrack], Audio]:
    """Make a reader of the sound of a set's clips."""

    def read(track: PreparedTrack) -> Audio:
        with _as_file(prepared, track, "flac") as path:
            return load_audio(path, max_seconds=None, min_seconds=0.0)

    return read


@contextmanager
def _as_file(prepared: PreparedSet, track: PreparedTrack, extension: str) -> Iterator[str]:
    """Provide a part of a clip as a temporary file for the duration of the block."""
    content = prepared.bytes(track.name.removesuffix(".mp4"), extension)
    with tempfile.NamedTemporaryFile(suffix=f".{extension}") as file:
        with full_disk_error(file.name):
            file.write(content)
            file.flush()
        yield file.name
