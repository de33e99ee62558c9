"""Face tracks: what training the embedded model needs of a talking video, computed once and cached as one file a clip.

A track holds the face mesh of every frame at the model's frame rate, the speech features of the same stretch of time, and the face
embedding. The pictures stay in the video; the mouth painter reads its crops from there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.media.audio import load_audio, normalise_loudness
from fantasytalking.media.video import read_frames
from fantasytalking.perception.face_embedding import Backend, embed_face
from fantasytalking.perception.faces import detect_faces
from fantasytalking.perception.landmarks import track_mesh

TRACK_FPS = 25.0
SCHEMA = 1
SAME_PERSON = 0.5
"""Cosine of face embeddings from which on two clips are taken to show one person."""


@dataclass(frozen=True)
class ClipInfo:
    """One row of a catalogue: where a clip is and where it comes from."""

    file: str
    identity: str
    kind: str  # "real" or "generated"
    split: str  # "train" or "val"
    source: str = ""
    terms: str = ""


@dataclass(frozen=True)
class FaceTrack:
    """Cached measurements of one clip.

    Attributes:
        info: the clip's row.
        points: [F, 468, 3] float32 face mesh in pixels at `TRACK_FPS`.
        scores: [F] face presence, 0..1.
        speech: [t, d] float16 speech features at 50 Hz, covering F / TRACK_FPS seconds.
        embedding: [e] float32 unit-norm face embedding, mean over several frames.
    """

    info: ClipInfo
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    speech: NDArray[np.float16]
    embedding: NDArray[np.float32]


def read_catalogue(path: Path) -> list[ClipInfo]:
    """Read a catalogue: one JSON object a line with at least file, identity, kind and split; other keys are ignored.

    Rows of another split than "train" and "val" are read and not used.

    Raises:
        InputError: the file is missing, a row is not a JSON object or lacks a key, or there is no row.
    """
    if not path.is_file():
        raise InputError(f"There is no catalogue at {path}; give the folder that holds catalogue.jsonl.")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        row = _row(line, f"Row {number} of {path}")
        missing = {"file", "identity", "kind", "split"} - row.keys()
        if missing:
            raise InputError(
                f"Row {number} of {path} lacks {', '.join(sorted(missing))}; each row needs file, identity, kind and split."
            )
        rows.append(ClipInfo(*(str(row.get(k, "")) for k in ("file", "identity", "kind", "split", "source", "terms"))))
    if not rows:
        raise InputError(f"The catalogue {path} is empty; give it one JSON object a line for each video.")
    return rows


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error}); each row is one JSON object.") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is a {type(row).__name__}; each row is one JSON object.")
    return row


def mean_embedding(
    frames: NDArray[np.uint8], count: int = 5, backend: Backend = "mobilefacenet"
) -> NDArray[np.float32]:
    """Unit-norm mean of the face embedding over `count` frames spread over the clip: uint8 [F, H, W, 3] -> float32 [e].

    Raises:
        InputError: no face in any of them.
    """
    vectors = []
    for i in np.linspace(0, len(frames) - 1, count).astype(int):
        faces = detect_faces(frames[i])
        if faces:
            vectors.append(embed_face(frames[i], faces[0], backend))
    if not vectors:
        raise InputError("No face was found in the clip; a face track needs one visible face.")
    mean = np.mean(vectors, 0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def fit_length(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sound [n] cut, or continued with silence, to `count` samples."""
    fitted = np.zeros(count, np.float32)
    found = samples[:count]
    fitted[: len(found)] = found
    return fitted


def nearest_faces(faces: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Largest cosine of each face with any of the others, -1 without others; unit-norm embeddings [e] -> [n].

    Catalogues name clips, not people: one at or above `SAME_PERSON` is the same person.
    """
    if not len(faces) or not len(others):
        return np.full(len(faces), -1, np.float32)
    held = np.stack(others)
    return np.array([float((held @ face).max()) for face in faces], np.float32)


def make_track(video: Path, info: ClipInfo, encoder: SpeechEncoder, max_seconds: float = 80.0) -> FaceTrack:
    """Measure one clip.

    Raises:
        InputError: the video has no face, no sound, or cannot be read.
    """
    frames, _ = read_frames(video, fps=TRACK_FPS, max_frames=int(max_seconds * TRACK_FPS))
    points, scores = track_mesh(frames)
    audio = load_audio(video, max_seconds=None, min_seconds=0.0)
    samples = fit_length(audio.samples, int(len(frames) / TRACK_FPS * audio.sample_rate))
    speech = encoder.encode(normalise_loudness(samples)).numpy()
    return FaceTrack(
        info,
        points.astype(np.float32),
        np.asarray(scores, np.float32),
        np.asarray(speech, np.float16),
        mean_embedding(frames),
    )


def save_track(track: FaceTrack, path: Path) -> None:
    """Write a track as safetensors, under a temporary name first."""
    arrays: dict[str, NDArray[Any]]
    arrays = {"points": track.points, "scores": track.scores, "speech": track.speech, "embedding": track.embedding}
    temporary = path.with_suffix(".part")
    save_file(arrays, temporary, metadata={"info": json.dumps(asdict(track.info)), "schema": str(SCHEMA)})
    os.replace(temporary, path)


def load_track(path: Path) -> FaceTrack:
    """Read what `save_track` wrote.

    Raises:
        InputError: the file is damaged or of another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            stored = file.metadata() or {}
            if stored.get("schema") != str(SCHEMA):
                raise InputError(f"{path} is no face track of this version; delete it, and it is measured again.")
            info = ClipInfo(**json.loads(stored["info"]))
            return FaceTrack(info, *(file.get_tensor(k) for k in ("points", "scores", "speech", "embedding")))
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, and it is measured again.") from error


def prepare_tracks(folder: Path, cache: Path, encoder: SpeechEncoder, clips: Sequence[ClipInfo]) -> dict[str, str]:
    """Cache a track for each clip that has none yet; clips that cannot be used are left out.

    Returns:
        File name -> reason, for the clips left out (also written to ``cache/left_out.json``).
    """
    cache.mkdir(parents=True, exist_ok=True)
    left_out = {}
    for info, target in zip(clips, _cache_files(cache, clips), strict=True):
        if target.exists():
            continue
        try:
            save_track(make_track(folder / info.file, info, encoder), target)
        except FantasyTalkingError as error:
            left_out[info.file] = str(error)
    (cache / "left_out.json").write_text(json.dumps(left_out, indent=1))
    return left_out


def _cache_files(cache: Path, clips: Sequence[ClipInfo]) -> list[Path]:
    """A file for each clip, named after the video, and after its folders too where two videos have the same name."""
    stems = [Path(info.file).stem for info in clips]
    count = Counter(stems)
    names = [
        stem if count[stem] == 1 else "__".join(Path(info.file).with_suffix("").parts)
        for stem, info in zip(stems, clips, strict=True)
    ]
    return [cache / f"{name}.safetensors" for name in names]
