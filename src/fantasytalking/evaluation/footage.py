"""Footage of one clip for all metrics: frames at the protocol's rate and size, sound, and what is computed once for all of them.

Letters: F frames, H height, W width, n sound samples.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SpeechEncoder
from fantasytalking.data.preparation.detect_speech import speech_stretches
from fantasytalking.errors import AudioError, FaceError, InputError
from fantasytalking.evaluation import phone_times
from fantasytalking.evaluation.eye_readings import average_readings, track_mirrored, track_settled
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.speech_targets import (
    SpeechTargets,
    onsets_beside,
    phone_targets,
    read_onsets,
    syllable_targets,
)
from fantasytalking.media.audio import load_audio, normalise_loudness
from fantasytalking.media.video import iterate_frames, probe_video
from fantasytalking.perception.body import person_mask
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.flag_runs import longest_flag_run

__all__ = ["Footage", "file_digest", "load_footage", "load_sound", "resized"]

Frames = NDArray[np.uint8]
FACE_SCORE = 0.5
"""Minimum mesh score of a frame that counts as showing the face."""
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(
            f"The file '{path}' cannot be read ({error.strerror}); check its path and permissions."
        ) from error


def resized(frame: Frames, longest_side: int, resize_filter: str) -> Frames:
    """Scale a frame [H, W, 3] up or down to a longest side; the aspect ratio is kept."""
    height, width = frame.shape[:2]
    scale = longest_side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return frame
    if resize_filter == "area":
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(Image.fromarray(frame).resize(size, _FILTERS[resize_filter]))


def load_sound(path: Path, seconds: float) -> NDArray[np.float32] | None:
    """Read the beginning of a file's sound, 16 kHz mono, exactly `seconds` long; None if the file has no sound track."""
    if not probe_video(path).has_audio:
        return None
    try:
        sound = load_audio(path, SAMPLE_RATE, min_seconds=0.0, seconds=seconds, allow_silent=True)
    except AudioError:
        return None
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    found = sound.samples[: len(samples)]
    samples[: len(found)] = found
    return samples


@dataclass
class Footage:
    """Clip in memory.

    Attributes:
        name: Name of the clip.
        frames: Frames uint8 [F, H, W, 3], at the protocol's rate and size.
        sound: Sound float32 [n], 16 kHz, as long as the frames; None for a file without sound.
        protocol: Protocol with which the clip was read.
        seconds: Length of the file, which may exceed that of the frames.
        onsets: Syllables of the sound with their onsets in seconds, where a file beside it tells them.
    """

    name: str
    frames: Frames
    sound: NDArray[np.float32] | None
    protocol: Protocol
    seconds: float = 0.0
    onsets: list[tuple[float, str]] | None = None

    @functools.cached_property
    def track(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Face mesh [F, 468, 3] in pixels and scores [F].

        Raises:
            FaceError: No frame shows a face.
        """
        try:
            points, scores = track_settled(self._distinct_frames())
        except FaceError as error:
            raise FaceError(
                f"None of the {len(self.frames)} frames shows a face; metrics of faces need one seen from the front."
            ) from error
        return points[self._places], scores[self._places]

    @functools.cached_property
    def eyes(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Opening of the person's right eye and left eye [F, 2], read from the frames and from their mirror images, and scores [F].

        See `average_readings`. It takes the mesh network once more than `track` does.

        Raises:
            FaceError: No frame shows a face.
        """
        track, places = self.track, self._places
        mirrored = track_mirrored(self._distinct_frames())
        return average_readings(track, None if mirrored is None else (mirrored[0][places], mirrored[1][places]))

    @functools.cached_property
    def _places(self) -> NDArray[np.intp]:
        """Place [F] of each frame among `_distinct_frames`."""
        # A repeated frame keeps the mesh of the previous one, so that a still image has exactly no motion.
        new = [True, *((a != b).any() for a, b in itertools.pairwise(self.frames))]
        return np.cumsum(new) - 1

    def _distinct_frames(self) -> Iterator[Frames]:
        return (self.frames[i] for i in np.flatnonzero(np.diff(self._places, prepend=-1)))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Whether each frame shows the face, bool [F]."""
        return np.asarray(self.track[1] >= FACE_SCORE)

    @functools.cached_property
    def longest_run(self) -> slice:
        """Longest run of consecutive frames that show the face; empty if none does."""
        return longest_flag_run(self.seen)

    @functools.cached_property
    def speech(self) -> NDArray[np.float32]:
        """Whisper features of the sound [t, 384] at 50 Hz.

        Raises:
            AudioError: There is no sound.
        """
        if self.sound is None:
            raise AudioError(
                f"The clip '{self.name}' has no sound; sync needs a video with sound, or a reference with it."
            )
        return np.asarray(_speech_encoder().encode(normalise_loudness(self.sound)).numpy(), np.float32)

    @functools.cached_property
    def voiced(self) -> NDArray[np.float64]:
        """Beginning and end of each stretch in which a voice is heard, [n, 2] in seconds.

        Raises:
            AudioError: There is no sound.
            MissingDependencyError: silero-vad is not installed.
        """
        if self.sound is None:
            raise AudioError(f"The clip '{self.name}' has no sound; pauses need a video with sound.")
        return speech_stretches(self.sound)

    @functools.cached_property
    def targets(self) -> SpeechTargets | None:
        """Where lips have to meet and to open: by known onsets, or by recognised phones where the recogniser is installed."""
        if self.onsets is not None:
            return syllable_targets(self.onsets)
        if self.sound is None or not phone_times.is_installed():
            return None
        return phone_targets(phone_times.find_phones(self.sound))

    @functools.cached_property
    def persons(self) -> NDArray[np.bool_]:
        """Mask of the person from the bundled segmentation network, bool [F, H, W]."""
        return np.stack([person_mask(frame) > 0.5 for frame in self.frames])

    @property
    def images(self) -> Frames:
        """Every n-th frame, with the protocol's `image_stride`."""
        return self.frames[:: self.protocol.image_stride]

    def face_boxes(self) -> Iterator[tuple[float, float, float, float]]:
        """Bounds x0, y0, x1, y1 of the face mesh in every frame, in pixels."""
        for mesh in self.track[0]:
            (x0, y0), (x1, y1) = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
            yield float(x0), float(y0), float(x1), float(y1)


@functools.cache
def _speech_encoder() -> SpeechEncoder:
    return SpeechEncoder.from_pretrained(embedded_folder() / "audio_encoder")


def load_footage(
    path: Path, protocol: Protocol, sound_of: Path | None = None, most_frames: int | None = None
) -> Footage:
    """Read a clip.

    Args:
        path: The video.
        protocol: Protocol with frame rate, size and length.
        sound_of: File whose sound is used; None takes the video's own.
        most_frames: Number of frames after which it is cut, at the protocol's rate; None cuts at the protocol's length only.

    Raises:
        VideoError: The video cannot be read.
        InputError: The video is shorter than two frames.
    """
    info = probe_video(path)
    most = protocol.max_frames if most_frames is None else min(most_frames, protocol.max_frames)
    frames = [
        resized(frame, protocol.longest_side, protocol.resize_filter)
        for frame in iterate_frames(path, protocol.fps, most)
    ]
    if len(frames) < 2:
        raise InputError(
            f"The clip '{path}' has {len(frames)} frame at {protocol.fps:g} frames a second; give two or more."
        )
    sound = load_sound(sound_of or path, len(frames) / protocol.fps)
    known = onsets_beside(sound_of or path)
    onsets = read_onsets(known) if known.is_file() else None
    return Footage(path.stem, np.stack(frames), sound, protocol, info.seconds, onsets)
