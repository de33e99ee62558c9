"""Face tracks made from numbers: the mesh of the example portrait with a jaw that follows made-up speech and a head that sways."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.rigid import rotation_from_vector
from fantasytalking.data.catalogue import CatalogueRow, Kind
from fantasytalking.data.face_tracks import FaceTrack, save_track
from fantasytalking.perception.landmarks import LIPS_INNER, face_mesh
from fantasytalking.training.embedded.fit_codec import fit_mesh_codec
from tests.pipeline.tiny_pipeline import portrait

SPEECH_DIM, FACE_DIM = 384, 192  # of the recipes

Array = NDArray[np.float32]


@cache
def own_mesh() -> Array:
    """Mesh [468, 3] of the example portrait at 192 pixels."""
    return face_mesh(portrait()).points.astype(np.float32)


@cache
def closed_mesh() -> Array:
    """The same with its lips closed: it smiles with an open mouth. Skin follows the lips, which the mesh network shows a little apart."""
    mesh = own_mesh()
    upper, lower = list(LIPS_INNER[1:10]), list(LIPS_INNER[:10:-1])
    eyes = float(np.linalg.norm(mesh[[33, 133]].mean(0) - mesh[[263, 362]].mean(0)))
    meeting = (mesh[upper] + mesh[lower]) / 2
    apart = np.array([0, 0.01 * eyes, 0], np.float32)
    change = np.concatenate([meeting - apart - mesh[upper], meeting + apart - mesh[lower]])
    distance = np.linalg.norm(mesh[:, None] - mesh[upper + lower], axis=2)
    nearest = distance.argmin(1)
    return mesh + np.exp(-((distance.min(1) / (0.5 * eyes)) ** 2))[:, None] * change[nearest]


def smooth_noise(frames: int, rng: np.random.Generator, width: float = 3.0) -> Array:
    """A wandering curve [frames] of zero mean and unit variance."""
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / width) ** 2)
    curve = np.convolve(rng.standard_normal(frames + 24), kernel, "valid")
    return ((curve - curve.mean()) / curve.std()).astype(np.float32)


def open_mouth(mesh: Array, opening: NDArray[np.floating]) -> Array:
    """Lower the jaw of a mesh [468, 3] by shares `opening` [F] of the face's height: [F, 468, 3]."""
    height = np.ptp(mesh[:, 1])
    lips = mesh[list(LIPS_INNER)]
    below = np.clip((mesh[:, 1] - lips[:, 1].mean()) / (0.02 * height), 0, 1)
    middle = np.exp(-(((mesh[:, 0] - lips[:, 0].mean()) / (0.35 * height)) ** 2))
    # also where the lips touch; the corners of the mouth stay together
    upper, lower = list(LIPS_INNER[:11]), list(LIPS_INNER[:10:-1])
    aside = (mesh[lower, 0] - lips[:, 0].mean()) / (np.ptp(lips[:, 0]) / 2)
    below[upper], below[lower] = 0, np.maximum(below[lower], 1 - aside**2)
    moved = np.repeat(mesh[None], len(opening), 0)
    moved[..., 1] += opening[:, None] * height * below * middle
    return moved


def play_features(meshes: Array, curves: Array) -> Array:
    """Add lesser expressions to meshes [F, 468, 3]: bumps of displacement here and there in the face, by curves [F, n]."""
    template, rng = own_mesh(), np.random.default_rng(5)
    height = np.ptp(template[:, 1])
    moved = meshes.copy()
    for curve in curves.T:
        distance = np.linalg.norm(template - template[rng.integers(len(template))], axis=1)
        bump = np.exp(-((distance / (0.2 * height)) ** 2))[:, None] * rng.standard_normal(3)
        moved += (0.01 * height * curve[:, None, None] * bump).astype(np.float32)
    return moved


def turn_head(meshes: Array, vectors: Array, shifts: Array, zooms: Array) -> Array:
    """Turn meshes [F, 468, 3] by rotation vectors [F, 3] about their middle, zoom by [F] and shift by [F, 2] pixels."""
    centre = meshes.mean((0, 1))
    rotation = rotation_from_vector(torch.from_numpy(vectors)).numpy()
    turned = np.einsum("fij,fvj->fvi", rotation, meshes - centre) * zooms[:, None, None] + centre
    turned[..., :2] += shifts[:, None]
    return turned.astype(np.float32)


def make_track(
    name: str, identity: str, frames: int = 100, seed: int = 0, lag: int = 0, split: str = "train", kind: Kind = "real"
) -> FaceTrack:
    """A track whose mouth follows its speech `lag` frames late (negative: early)."""
    rng = np.random.default_rng(seed)
    person = np.random.default_rng([ord(c) for c in identity])
    sound = smooth_noise(frames + 2 * 20, rng)
    # lips stay closed where the sound is faint
    opening = 0.05 * np.maximum(0, 0.8 + np.tanh(sound[20 - lag : 20 - lag + frames]))
    shape = closed_mesh() * (1 + 0.05 * person.standard_normal(3).astype(np.float32))
    vectors = 0.08 * np.stack([smooth_noise(frames, rng, 8) for _ in range(3)], 1)
    shifts = np.stack([smooth_noise(frames, rng, 8) for _ in range(2)], 1)
    zooms = 1 + 0.01 * smooth_noise(frames, rng, 8)
    curves = np.stack([smooth_noise(frames, rng, 4) for _ in range(9)], 1)
    points = turn_head(play_features(open_mouth(shape, opening), curves), vectors, shifts, zooms)
    # two tokens to a frame; the direction that carries the sound is the same for every clip
    direction = np.random.default_rng(99).standard_normal(SPEECH_DIM)
    heard = np.interp((np.arange(2 * frames) + 0.5) / 2 - 0.5, np.arange(frames), sound[20 : 20 + frames])
    speech = 0.5 * heard[:, None] * direction + 0.3 * rng.standard_normal((2 * frames, SPEECH_DIM))
    embedding = person.standard_normal(FACE_DIM).astype(np.float32)
    info = CatalogueRow(f"{name}.mp4", identity, kind, split)
    scores = np.full(frames, 0.99, np.float32)
    return FaceTrack(info, points, scores, speech.astype(np.float16), embedding / np.linalg.norm(embedding))


@cache
def tracks() -> tuple[FaceTrack, ...]:
    """Training tracks of four people, two each."""
    return tuple(make_track(f"clip{i}", f"person{i % 4}", seed=i) for i in range(8))


@cache
def codec() -> MeshCodec:
    """A codec fitted to `tracks`; not to be changed."""
    fitted = MeshCodec(coefficients=10, height=6, width=4)
    fit_mesh_codec(fitted, tracks())
    return fitted


def write_cache(folder: Path, validation: bool = True) -> Path:
    """A cache of tracks as `fantasytalking train` keeps it."""
    folder.mkdir(parents=True)
    held_out = [make_track(f"held{i}", f"stranger{i}", seed=50 + i, split="val") for i in range(2)]
    for track in [*tracks(), *(held_out if validation else [])]:
        save_track(track, folder / track.info.file.replace(".mp4", ".safetensors"))
    return folder
