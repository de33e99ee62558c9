"""Reading and checking portrait and speech, and bringing them to the form that the pipeline computes with.

Nothing is changed silently: whatever is shrunk, shortened or chosen here is a sentence in `notes`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fantasytalking.errors import AudioError, FaceError
from fantasytalking.geometry import Strides, fit_size, released_frame_count
from fantasytalking.media.audio import Audio, fit_length, is_silent, load_audio, normalise_loudness
from fantasytalking.media.image import load_image
from fantasytalking.media.loudness import normalise_pieces, quiet_level
from fantasytalking.media.python_inputs import audio_of, checked_rate
from fantasytalking.media.resampling import StreamResampler
from fantasytalking.media.spooled_sound import SPOOLED, Spool, pieces_of
from fantasytalking.media.video import exact_rate
from fantasytalking.perception.face_confidence import FaceCheck
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.portrait_face import choose_portrait_face
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["AudioSource", "ImageSource", "Portrait", "Speech", "load_portrait", "load_portraits", "load_speech"]


SPEECH_RATE = 16000
"""Sample rate of the speech encoders, Hz."""
SOUNDTRACK_RATE = 48000
"""Sample rate of the sound in the finished video, Hz."""
MIN_SECONDS = 0.2
"""Shortest accepted speech, seconds."""
_PADDING = 0.1  # seconds that an encoder adds at most
_QUIET = -20.0  # dB of the quietest parts of speech below its loud ones, see `quiet_level`
_PAUSES_IN = 2.5  # seconds of speech that have a quiet moment
_LISTENED = 60.0  # seconds that are looked through for one


@dataclass(frozen=True)
class Portrait:
    """The portrait, ready for the model.

    Attributes:
        pixels: [H, W, 3] uint8 RGB at the size of the video.
        original: [H0, W0, 3] uint8 RGB as loaded; the face is measured here.
        face: The talking face in pixels of `pixels`, or None where none was looked for or needed.
        original_face: The same face in pixels of `original`.
        notes: What was changed or chosen, one sentence each.
        check: What a closer look says about the face, or None where nobody looked.
        all_faces: All faces in pixels of `pixels`, largest first, where several people speak.
    """

    pixels: NDArray[np.uint8]
    original: NDArray[np.uint8]
    face: Face | None
    original_face: Face | None
    notes: tuple[str, ...] = ()
    check: FaceCheck | None = None
    all_faces: tuple[Face, ...] = ()


@dataclass(frozen=True)
class Speech:
    """The speech, ready for the model, and the length of the video that it needs.

    Attributes:
        samples: [n] float32 at 16 kHz, padded with silence to exactly `num_frames` frames.
        soundtrack: Sound of the finished video: the speech at full bandwidth, not padded.
        fps: Frames per second of the video.
        num_frames: Frames to generate, a multiple of 4 plus 1.
        video_frames: Frames of the finished video: the length of the speech, rounded to a frame, at most `num_frames`.
        notes: What was changed, one sentence each.
    """

    samples: NDArray[np.float32]
    soundtrack: Audio
    fps: float
    num_frames: int
    video_frames: int
    notes: tuple[str, ...] = ()


ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | ArrayLike | Portrait
AudioSource: TypeAlias = str | os.PathLike[str] | Audio | tuple[ArrayLike, int] | Speech


def load_portrait(image: ImageSource, settings: GenerationSettings, rules: ModelRules, find_face: bool) -> Portrait:
    """Read the portrait, choose the face, scale both to the size of the video.

    Args:
        image: A file, a PIL image, or what else `load_image` takes; a `Portrait` is given back.
        settings: Uses `face`, `face_check` and `longest_side`.
        rules: Rules of the model.
        find_face: Whether the face is looked for: the model has an identity module, or its rules demand a face.

    Raises:
        ImageError: The image cannot be used.
        FaceError: No face, a face too small or hardly human, or no face of that number.
    """
    if isinstance(image, Portrait):
        return image
    notes: list[str] = []
    with _noting(notes):
        original = load_image(image)
    with _noting(notes, " Choose another with --face."):
        looked = find_face or settings.face is not None
        face, check = _face(original, settings, rules) if looked else (None, None)
    pixels = _sized(original, settings, rules, notes)
    return Portrait(pixels, original, _scaled(face, original, pixels), face, tuple(notes), check)


def load_portraits(
    image: ImageSource | Mapping[int, Portrait], faces: Iterable[int], settings: GenerationSettings, rules: ModelRules
) -> dict[int, Portrait]:
    """Read a picture in which several people speak: once, whatever their number.

    Args:
        image: As for `load_portrait`; or portraits by number of the face, which are given back.
        faces: Numbers of the faces that speak, counted from 0 by size.
        settings: Uses `face_check` and `longest_side`.
        rules: Rules of the model.

    Raises:
        ImageError: The image cannot be used.
        FaceError: There is no face of such a number, or one that is too small or hardly human.
    """
    if isinstance(image, Mapping):
        return {face: image[face] for face in faces}
    notes: list[str] = []
    with _noting(notes):
        original = image.original if isinstance(image, Portrait) else load_image(image)
    pixels = _sized(original, settings, rules, notes)
    found = detect_faces(original)
    scaled = tuple(face for face in (_scaled(one, original, pixels) for one in found) if face is not None)
    portraits: dict[int, Portrait] = {}
    for number in faces:
        own: list[str] = []
        with _noting(own):
            face, check = choose_portrait_face(original, settings.replace(face=number), found)
        # What is true of the picture is told once.
        told = (*own, *notes) if not portraits else tuple(own)
        portraits[number] = Portrait(pixels, original, _scaled(face, original, pixels), face, told, check, scaled)
    return portraits


def load_speech(audio: AudioSource, settings: GenerationSettings, rules: ModelRules) -> Speech:
    """Read the speech and count the frames it needs.

    Args:
        audio: A file (of sound, or a video whose sound is used), an `Audio`, or samples with their rate as `audio_of` takes
            them; a `Speech` is given back.
        settings: Uses `fps`, `max_seconds` and `separate_speech`.
        rules: Rules of the model.

    Raises:
        AudioError: No usable sound.
        MissingDependencyError: The voice is to be separated, and the package for that is not installed.
        CheckpointError: The network for that is not on this machine.
    """
    if isinstance(audio, Speech):
        return audio
    # The exact fraction that the video writer uses (23.976 is 24000/1001), so that frames and sound stay in step.
    fps = float(exact_rate(settings.fps or rules.native_fps))
    limit = rules.max_frames / fps
    told: list[str] = []
    with _noting(told):
        sound, notes = _read(audio, settings.max_seconds)
    notes = [*told, *notes]
    video_frames = max(1, round(sound.seconds * fps))
    if rules.max_frames < video_frames <= (limit + _PADDING) * fps:
        # Files whose end was padded by an encoder are a few frames too long, for which no second clip is made.
        notes.append(f"The last {sound.seconds - limit:.2f} s of the speech are cut: one clip holds {limit:.2f} s.")
        sound = _beginning(sound, limit)
        video_frames = rules.max_frames
    most = max(rules.max_frames, Strides().num_frames(video_frames // Strides().time + 3))
    num_frames = released_frame_count(
        sound.seconds, fps, rules.max_frames if video_frames <= rules.max_frames else most
    )
    voice = sound
    if settings.separate_speech == "on":
        voice, note = _voice_of(sound)
        notes.append(note)
    else:
        notes += _about_music(sound)
    samples = _heard(voice, rules.speech_level, round(num_frames / fps * SPEECH_RATE))
    return Speech(samples, sound, fps, num_frames, video_frames, tuple(notes))


def _about_music(sound: Audio) -> list[str]:
    """A note where speech does not get as quiet as speech does by itself."""
    if sound.seconds < _PAUSES_IN:
        return []
    level = quiet_level(sound.samples[: round(_LISTENED * sound.sample_rate)], sound.sample_rate)
    if level <= _QUIET:
        return []
    return [
        f"The sound never gets more than {-level:.0f} dB below its loud parts, as where there is music or noise under the speech; if so, "
        "separate_speech on (--separate-speech on) lets the video follow the voice alone."
    ]


def _voice_of(sound: Audio) -> tuple[Audio, str]:
    """The voice of a recording, and a sentence about it."""
    # Imported here, as it brings PyTorch.
    from fantasytalking.conditioning.voice_separation import find_separator, load_separator, separated_voice

    voice, share = separated_voice(sound, load_separator(find_separator()))
    return voice, (
        f"The video follows the voice alone, {min(1.0, share):.0%} of the recording's energy, which separate_speech took out of it; its "
        "sound is the whole recording."
    )


def _heard(sound: Audio, level: float | None, count: int) -> NDArray[np.float32]:
    """Sound as the speech encoders take it: at their rate, at a level, cut or continued with silence to `count` samples."""
    if len(sound.samples) <= SPOOLED:
        speech = soxr.resample(sound.samples, sound.sample_rate, SPEECH_RATE)
        if level is not None:
            speech = normalise_loudness(speech, SPEECH_RATE, target=level)
        return fit_length(speech, count)
    resampler, spool = StreamResampler(SPEECH_RATE), Spool(is_long=True)
    for piece in pieces_of(sound.samples):
        spool.push(resampler.push(piece, sound.sample_rate))
    spool.push(resampler.finish())
    speech, spool = spool.samples(), Spool(is_long=True)
    for piece in pieces_of(speech) if level is None else normalise_pieces(speech, SPEECH_RATE, level):
        spool.push(np.array(piece))
    spool.push(np.zeros(max(0, count - spool.count), np.float32))
    return spool.samples()[:count]


@contextmanager
def _noting(notes: list[str], way_out: str = "") -> Iterator[None]:
    """Collect the warnings of a reader as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    notes += [f"{warning.message}{way_out}" for warning in caught if issubclass(warning.category, UserWarning)]


def _read(audio: AudioSource, max_seconds: float | None) -> tuple[Audio, list[str]]:
    """The part of the sound that is used, and notes about it."""
    if not isinstance(audio, str | os.PathLike | Audio):
        audio = Audio(*audio_of(audio))
    if isinstance(audio, Audio):
        sound = _checked(audio)
    elif max_seconds is None:
        sound = load_audio(audio, SOUNDTRACK_RATE, from_picture=False)
    else:
        # Reading a little more than needed shows whether something is cut off.
        sound = load_audio(audio, SOUNDTRACK_RATE, seconds=max_seconds + 0.05, from_picture=False)
    if max_seconds is None or sound.seconds <= max_seconds:
        return sound, []
    return _beginning(sound, max_seconds), [f"Only the first {max_seconds:g} s of the speech are used (max_seconds)."]


def _checked(audio: Audio) -> Audio:
    checked_rate(audio.sample_rate)
    if np.ndim(audio.samples) != 1 or len(audio.samples) < MIN_SECONDS * audio.sample_rate:
        raise AudioError(
            f"The speech must be mono samples [n] of at least {MIN_SECONDS:g} s, but an array of shape {tuple(np.shape(audio.samples))} "
            f"at {audio.sample_rate} Hz was given; mix it to one channel or give a longer recording."
        )
    audio = Audio(*audio_of((audio.samples, audio.sample_rate)))
    samples = audio.samples
    if is_silent(samples, audio.sample_rate):
        raise AudioError("The speech is silent; give samples in -1..1 that hold a voice.")
    return Audio(samples, audio.sample_rate)


def _beginning(sound: Audio, seconds: float) -> Audio:
    return Audio(sound.samples[: round(seconds * sound.sample_rate)], sound.sample_rate)


def _face(
    image: NDArray[np.uint8], settings: GenerationSettings, rules: ModelRules
) -> tuple[Face | None, FaceCheck | None]:
    try:
        return choose_portrait_face(image, settings)
    except FaceError:
        if rules.needs_face or settings.face is not None or settings.identity_scale > 0:
            raise
        return None, None


def _video_size(width: int, height: int, longest_side: int | None, rules: ModelRules) -> tuple[int, int]:
    longest = longest_side or rules.longest_side
    if not rules.own_size:
        assert longest is not None
        return fit_size(width, height, longest)
    if longest is None or max(width, height) <= longest:
        return width, height
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _sized(
    original: NDArray[np.uint8], settings: GenerationSettings, rules: ModelRules, notes: list[str]
) -> NDArray[np.uint8]:
    """A picture at the size of the video; a note where that is not its own although the model takes any."""
    height, width = original.shape[:2]
    new_width, new_height = _video_size(width, height, settings.longest_side, rules)
    if (new_width, new_height) == (width, height):
        return original
    if rules.own_size:
        notes.append(f"The picture of {width} x {height} pixels is shrunk to {new_width} x {new_height}.")
    return np.array(Image.fromarray(original).resize((new_width, new_height), Image.Resampling.LANCZOS))


def _scaled(face: Face | None, original: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> Face | None:
    """A face of the picture at the size of the video."""
    if face is None:
        return None
    (down, across) = (new / old for new, old in zip(pixels.shape[:2], original.shape[:2], strict=True))
    x0, y0, x1, y1 = face.box
    points = np.asarray(face.points) * np.array([across, down], np.float32)
    return Face((x0 * across, y0 * down, x1 * across, y1 * down), face.score, points)
