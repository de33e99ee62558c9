"""Reading and checking the footage and the speech that are dubbed together."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import SettingsError
from fantasytalking.perception.faces import Face, detect_faces, face_of_mesh
from fantasytalking.pipeline.face_in_footage import FollowedFace, OpenedFootage, follow_face, open_footage
from fantasytalking.pipeline.inputs import AudioSource, Portrait, Speech, load_portrait, load_speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = [
    "Footage",
    "FootageSource",
    "Speaker",
    "SpeechSource",
    "by_face",
    "check_chosen_once",
    "load_footage",
    "load_footage_speech",
    "load_speakers",
]


@dataclass(frozen=True)
class Footage:
    """Footage that is ready to be dubbed.

    Attributes:
        video: The file.
        face: The face that is dubbed, in all frames.
        first: The first frame, as the portrait of a model that continues it.
        resting: The frame that shows the face best at rest, as the portrait of a model that moves it.
    """

    video: OpenedFootage
    face: FollowedFace
    first: Portrait
    resting: Portrait


FootageSource: TypeAlias = str | os.PathLike[str] | Footage | Mapping[int | None, Footage]
SpeechSource: TypeAlias = AudioSource | Mapping[int, AudioSource]


@dataclass(frozen=True)
class Speaker:
    """One person who speaks in footage.

    Attributes:
        footage: The footage, with this person's face.
        speech: The speech.
    """

    footage: Footage
    speech: Speech


def by_face(audio: Any) -> TypeGuard[Mapping[int, AudioSource]]:
    """Whether speeches were given by number of the face, and not one speech as a mapping."""
    return isinstance(audio, Mapping) and bool(audio) and all(isinstance(face, int) for face in audio)


def check_chosen_once(settings: GenerationSettings) -> None:
    """Check that no face is chosen where speeches are given by face.

    Raises:
        SettingsError: One is.
    """
    if settings.face is not None:
        raise SettingsError(
            f"Speeches were given by face, and face {settings.face} was chosen besides; leave out one of them."
        )


def load_speakers(
    source: FootageSource, audio: SpeechSource, settings: GenerationSettings, rules: ModelRules, progress: Progress
) -> list[Speaker]:
    """Read footage and the speech of each person who speaks in it; all speech is read before any face is followed.

    Args:
        source: A video file; or footage that was read before, by face where several speak.
        audio: One speech, or speeches by number of the face.
        settings: Uses `face`, `face_check`, `longest_side`, `fps` and `max_seconds`.
        rules: Rules of the model.
        progress: Shows the stage.

    Raises:
        InputError: Footage or speech cannot be used, or a face was chosen where the speeches choose them.
    """
    if by_face(audio):
        check_chosen_once(settings)
    speeches: dict[int | None, Any] = (
        {face: one for face, one in audio.items()} if by_face(audio) else {settings.face: audio}
    )
    if isinstance(source, Footage):
        source = {settings.face: source}
    known = source if isinstance(source, Mapping) else {}
    video = next(iter(known.values())).video if known else open_footage(source)  # type: ignore[arg-type]
    read = {face: load_footage_speech(one, video.seconds, settings, rules) for face, one in speeches.items()}
    return [
        Speaker(known.get(face) or load_footage(video, settings.replace(face=face), rules, progress), speech)
        for face, speech in read.items()
    ]


def load_footage(
    source: str | os.PathLike[str] | OpenedFootage, settings: GenerationSettings, rules: ModelRules, progress: Progress
) -> Footage:
    """Read footage, follow the face that is dubbed, and look at it closely.

    Args:
        source: A video file, opened or not.
        settings: Uses `face`, `face_check` and `longest_side`.
        rules: Rules of the model.
        progress: Shows the stage.

    Raises:
        VideoError: The file cannot be used.
        FaceError: There is no face, no face of that number, or it is too small or hardly human.
    """
    video = source if isinstance(source, OpenedFootage) else open_footage(source)
    face = follow_face(video, settings.face, progress)
    frame, mesh = video.frame(face.rest), np.array(face.meshes[face.rest])
    found = _number_of(detect_faces(frame), mesh)
    if found is None:
        # seen by the mesh alone, as in a turned head
        resting = _unchecked(frame, mesh)
    else:
        looked = load_portrait(frame, settings.replace(face=found), rules, True)
        resting = dataclasses.replace(looked, notes=())
    first = load_portrait(video.frame(0), settings.replace(face=None), rules, False)
    return Footage(video, face, dataclasses.replace(first, check=resting.check, notes=()), resting)


def load_footage_speech(audio: AudioSource, seconds: float, settings: GenerationSettings, rules: ModelRules) -> Speech:
    """Read the speech for footage; what is longer than the footage is left out, with a note.

    Args:
        audio: As `inputs.load_speech` takes it.
        seconds: Length of the footage.
        settings: Uses `fps` and `max_seconds`.
        rules: Rules of the model.

    Raises:
        AudioError: No usable sound.
    """
    if isinstance(audio, Speech):
        return audio
    if settings.max_seconds is not None and settings.max_seconds <= seconds:
        return load_speech(audio, settings, rules)
    # three decimals: what a note of the reader says
    speech = load_speech(audio, settings.replace(max_seconds=max(0.2, math.floor(1000 * seconds) / 1000)), rules)
    notes = [
        f"The speech is longer than the footage ({seconds:.2f} s), so what comes after that is left out."
        if note.endswith("(max_seconds).")
        else note
        for note in speech.notes
    ]
    return dataclasses.replace(speech, notes=tuple(notes))


def _number_of(faces: list[Face], mesh: NDArray[np.float32]) -> int | None:
    """Which of the faces a mesh [468, 3] belongs to."""
    centre = mesh[:, :2].mean(0)
    away = [float(np.hypot(*(face.points.mean(0) - centre))) / face.size for face in faces]
    nearest = int(np.argmin(away)) if away else None
    return nearest if nearest is not None and away[nearest] < 0.5 else None


def _unchecked(frame: NDArray[np.uint8], mesh: NDArray[np.float32]) -> Portrait:
    face = face_of_mesh(mesh)
    return Portrait(frame, frame, face, face)
