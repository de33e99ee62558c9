"""Face tracks: measurements of a talking video for training the embedded model, computed once and cached, one file per clip.

A track holds the face mesh of every frame at the model's frame rate, the speech features of the same period, and the face embedding. The
frames stay in the video, from which the mouth painter reads its crops.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.catalogue import CatalogueRow
from fantasytalking.data.usable_stretches import longest_usable
from fantasytalking.errors import InputError, OutputError, SettingsError
from fantasytalking.media.audio import fit_length, load_audio, normalise_loudness
from fantasytalking.media.video import read_frames
from fantasytalking.perception.face_embedding import Backend, embed_face
from fantasytalking.perception.faces import detect_faces
from fantasytalking.perception.landmarks import track_mesh
from fantasytalking.pipeline.progress import show_note, stage
from fantasytalking.system.checked_arrays import read_arrays, save_arrays
from fantasytalking.system.json import write_json
from fantasytalking.system.records import read_record

TRACK_FPS = 25.0
"""Frame rate of tracks, frames per second."""
SCHEMA = 1
"""Version of the cached files."""
SAME_PERSON = 0.5
"""Cosine of face embeddings at or above which two clips are assumed to show the same person."""
_ARRAYS = ("points", "scores", "speech", "embedding")
_EMBEDDED_FRAMES = 5
_MAX_SECONDS = 80.0


@dataclass(frozen=True)
class FaceTrack:
    """Cached measurements of one clip.

    Attributes:
        info: Catalogue row of the clip.
        points: Face mesh float32 [F, 468, 3] in pixels, at `TRACK_FPS`.
        scores: Face presence float32 [F], 0..1.
        speech: Speech features float16 [t, d] at 50 Hz, covering F / TRACK_FPS seconds.
        embedding: Unit-norm face embedding float32 [e], mean over several frames.
        first: Frame of the video, at `TRACK_FPS`, that the track begins with.
    """

    info: CatalogueRow
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    speech: NDArray[np.float16]
    embedding: NDArray[np.float32]
    first: int = 0


def mean_embedding(frames: NDArray[np.uint8], backend: Backend = "mobilefacenet") -> NDArray[np.float32]:
    """Unit-norm mean [e] of the face embedding over five evenly spaced frames of a clip.

    Args:
        frames: Frames uint8 [F, H, W, 3].
        backend: Network that computes the embedding.

    Raises:
        InputError: There is no face in any of the five frames.
    """
    vectors = []
    for i in np.linspace(0, len(frames) - 1, _EMBEDDED_FRAMES).astype(int):
        faces = detect_faces(frames[i])
        if faces:
            vectors.append(embed_face(frames[i], faces[0], backend))
    if not vectors:
        raise InputError("No face was found in the clip; a face track needs one visible face.")
    mean = np.mean(vectors, 0)
    result: NDArray[np.float32] = (mean / np.linalg.norm(mean)).astype(np.float32)
    return result


def nearest_faces(faces: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Largest cosine [n] of each of n faces with any of the others; -1 without others.

    Catalogues name clips, not people: at or above `SAME_PERSON` two faces are assumed to be of the same person.

    Args:
        faces: Unit-norm embeddings [e] of the n faces.
        others: Unit-norm embeddings [e] to compare with.
    """
    if not len(faces) or not len(others):
        return np.full(len(faces), -1, np.float32)
    held = np.stack(others)
    return np.array([float((held @ face).max()) for face in faces], np.float32)


def make_track(video: Path, info: CatalogueRow, encoder: SpeechEncoder) -> FaceTrack:
    """Measure a clip: the longest stretch of its first 80 seconds that has sound and a picture that moves.

    Args:
        video: The video file.
        info: Its catalogue row.
        encoder: Encoder of the speech features.

    Raises:
        InputError: The video has no face, no sound, no such stretch (see `data.usable_stretches`), or cannot be read.
    """
    usable = longest_usable(video, _MAX_SECONDS)
    first = math.ceil(usable.start * TRACK_FPS - 1e-3)
    count = max(1, int(usable.end * TRACK_FPS + 1e-3) - first)
    frames, _ = read_frames(video, TRACK_FPS, count, first / TRACK_FPS)
    points, scores = track_mesh(frames)
    seconds = len(frames) / TRACK_FPS
    audio = load_audio(video, min_seconds=0.0, start=first / TRACK_FPS, seconds=seconds)
    samples = fit_length(audio.samples, int(seconds * audio.sample_rate))
    speech = encoder.encode(normalise_loudness(samples)).numpy()
    return FaceTrack(
        info,
        points.astype(np.float32),
        np.asarray(scores, np.float32),
        np.asarray(speech, np.float16),
        mean_embedding(frames),
        first,
    )


def save_track(track: FaceTrack, path: Path) -> None:
    """Write a track as safetensors; the file appears complete or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    arrays = {name: getattr(track, name) for name in _ARRAYS}
    save_arrays(
        path, arrays, {"info": json.dumps(asdict(track.info)), "schema": str(SCHEMA), "first": str(track.first)}
    )


def load_track(path: Path) -> FaceTrack:
    """Read a track that `save_track` wrote.

    Raises:
        InputError: The file is damaged or of another version.
    """
    try:
        arrays, stored = read_arrays(path)
        if stored.get("schema") != str(SCHEMA):
            raise InputError("it is not a face track of this version")
        info = read_record(CatalogueRow, json.loads(stored["info"]))
        # files of earlier releases begin with the video
        return FaceTrack(info, **{name: arrays[name] for name in _ARRAYS}, first=int(stored.get("first", 0)))
    except (InputError, SettingsError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"The face track {path} cannot be used ({str(error).rstrip('.')}); delete it, and the clip is measured "
            "again, or left out where its video is not at hand."
        ) from error


def prepare_tracks(folder: Path, cache: Path, encoder: SpeechEncoder, clips: Sequence[CatalogueRow]) -> dict[str, str]:
    """Cache a track for each clip that has none yet, or a damaged one; clips that cannot be used are left out.

    Args:
        folder: Folder that the paths of `clips` are relative to.
        cache: Folder of the tracks.
        encoder: Encoder of the speech features.
        clips: Catalogue rows.

    Returns:
        File name -> reason for each clip that was left out (also written to ``cache/left_out.json``).

    Raises:
        OutputError: A track cannot be written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    left_out = {}
    targets = zip(clips, _cache_files(cache, clips), strict=True)
    missing = [(info, target) for info, target in targets if not (target.exists() and _is_usable(target))]
    with stage("face tracks", len(missing)) as advance:
        for info, target in missing:
            try:
                track = make_track(folder / info.file, info, encoder)
            except OutputError:
                raise
            except InputError as error:
                left_out[info.file] = str(error)
                # A damaged track must not be taken for the clip's.
                target.unlink(missing_ok=True)
            else:
                save_track(track, target)
            advance()
    write_json(cache / "left_out.json", left_out, indent=1)
    return left_out


def _is_usable(track: Path) -> bool:
    try:
        load_track(track)
    except InputError as error:
        show_note(f"{str(error).rpartition(';')[0]}; the clip is measured again.")
        return False
    return True


def _cache_files(cache: Path, clips: Sequence[CatalogueRow]) -> list[Path]:
    """Path of each clip's track, named after the video, and after its folders too if two videos have the same name."""
    stems = [Path(info.file).stem for info in clips]
    count = Counter(stems)
    names = [
        stem if count[stem] == 1 else "__".join(Path(info.file).with_suffix("").parts)
        for stem, info in zip(stems, clips, strict=True)
    ]
    return [cache / f"{name}.safetensors" for name in names]
