"""Four measures of THEval (arXiv:2511.04520) that need only a face mesh and a voice detector, and its score.

Formulas and constants are those of the published code (github.com/Newbyl/THEval, Apache-2.0, commit 3603338), from which this differs as
follows. The mesh is the project's, with 468 points and lips that no attention refines; theirs is MediaPipe's with refinement. Frames are
those of the protocol, and the silent lips are measured at its size, where theirs are squeezed to 256 x 256 pixels. The sound is read at
16 kHz. A frame without a face is left out of all four. The score is the mean of these four, where theirs has eight.

Letters: F frames, n samples.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, gather
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column
from fantasytalking.perception.face_measures import eye_distance
from fantasytalking.perception.mesh_points import (
    LEFT_EYE,
    LEFT_EYEBROW,
    LIPS_INNER,
    LIPS_OUTER,
    RIGHT_EYE,
    RIGHT_EYEBROW,
)
from fantasytalking.system.flag_runs import flag_runs

__all__ = ["THEval", "eyebrow_dynamics", "lip_dynamics", "lip_sync", "silent_lip_stability", "standard"]

MOST_FRAMES = 500
"""Frames of which the lip dynamics are, from the beginning."""
SHORTEST_SILENCE = 0.3
LEAST_SPEECH = 0.1
"""Share of frames with speech below which lip sync is not measured."""
VOLUME_BLOCK = 0.05
"""Seconds of a block of loudness."""
UPPER_LIP = (191, 80, 81, 82, 13, 312, 311, 310)
LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318)
_LIPS = sorted({*LIPS_OUTER, *LIPS_INNER})
_BROWS = (RIGHT_EYEBROW, LEFT_EYEBROW)
_PAIRS = np.array(list(itertools.combinations(range(len(_LIPS)), 2)))

Stretches = NDArray[np.float64]


def lip_dynamics(points: NDArray[np.floating]) -> float:
    """Variance over time of the distances between the 40 lip points, over that of the outer corners of the eyes, mean of all 780 pairs.

    Args:
        points: Meshes [F, 468, 2 or 3] of frames that show the face, in pixels.
    """
    flat = np.asarray(points[:MOST_FRAMES, :, :2], np.float64)
    lips = flat[:, _LIPS]
    distances = np.linalg.norm(lips[:, _PAIRS[:, 0]] - lips[:, _PAIRS[:, 1]], axis=-1) / eye_distance(flat)[:, None]
    return float(distances.var(axis=0).mean())


def eyebrow_dynamics(points: NDArray[np.floating]) -> float:
    """Mean change, from frame to frame, of the distance of brow and eye over that of both eyes; brows and eyes are means of their points.

    Args:
        points: Meshes [F, 468, 2 or 3] of frames that show the face, in pixels.
    """
    flat = np.asarray(points[..., :2], np.float64)
    eyes, brows = ([flat[:, list(part)].mean(axis=1) for part in pair] for pair in ((RIGHT_EYE, LEFT_EYE), _BROWS))
    scale = np.linalg.norm(eyes[0] - eyes[1], axis=-1)
    heights = np.stack([np.linalg.norm(b - e, axis=-1) / scale for b, e in zip(brows, eyes, strict=True)])
    return float(np.abs(np.diff(heights, axis=1)).mean()) if heights.shape[1] > 1 else 0.0


def silent_lip_stability(points: NDArray[np.floating], seen: NDArray[np.bool_], speech: Stretches, fps: float) -> float:
    """Median distance of the opening of silent lips from its mean.

    The opening is the mean height between eight pairs of inner-lip points over the distance of the outer corners of the eyes.

    Args:
        points: Meshes [F, 468, 2 or 3].
        seen: Whether each frame shows the face, [F].
        speech: Stretches with a voice, [n, 2] in seconds.
        fps: Frames per second.

    Raises:
        InputError: Fewer than two frames are silent for at least 0.3 s and show the face.
    """
    chosen = points[silent_frames(speech, len(points), fps) & seen]
    if len(chosen) < 2:
        raise InputError(
            f"The face is seen in {len(chosen)} frames of pauses of {SHORTEST_SILENCE:g} s or more; two are needed."
        )
    heights = np.abs(chosen[:, list(UPPER_LIP), 1] - chosen[:, list(LOWER_LIP), 1]).mean(axis=1)
    opening = heights / eye_distance(chosen[..., :2])
    return float(np.median(np.abs(opening - opening.mean())))


def silent_frames(speech: Stretches, frames: int, fps: float) -> NDArray[np.bool_]:
    """Whether each frame is in a stretch of at least 0.3 s without a voice, [F]."""
    silent = ~_speech_frames(speech, frames, fps)
    for start, stop in flag_runs(silent):
        silent[start:stop] = stop - start >= SHORTEST_SILENCE * fps
    return silent


def lip_sync(
    points: NDArray[np.floating], seen: NDArray[np.bool_], sound: NDArray[np.float32], speech: Stretches, fps: float
) -> float:
    """Mean difference of opening and loudness where there is speech, each scaled to 0..1 over these frames.

    Args:
        points: Meshes [F, 468, 2 or 3].
        seen: Whether each frame shows the face, [F].
        sound: Sound [n] at 16 kHz.
        speech: Stretches with a voice, [n, 2] in seconds.
        fps: Frames per second.

    Raises:
        InputError: Fewer than a tenth of the frames has speech, or fewer than two of them show the face.
    """
    spoken = _speech_frames(speech, len(points), fps)
    chosen = spoken & seen
    if spoken.mean() < LEAST_SPEECH or chosen.sum() < 2:
        raise InputError(
            f"Speech is heard in {spoken.mean():.0%} of the frames; lip sync of THEval needs {LEAST_SPEECH:.0%}."
        )
    upper, lower = (points[:, list(part), 1].mean(axis=1) for part in (UPPER_LIP, LOWER_LIP))
    middles = [points[:, corners, 0].mean(axis=1) for corners in ([33, 133], [362, 263])]
    opening = np.abs(upper - lower) / np.maximum(np.abs(middles[1] - middles[0]), 1e-6)
    loud = np.interp(np.arange(len(points)) / fps, *_volume(sound))
    return float(np.abs(_scaled(opening[chosen]) - _scaled(loud[chosen])).mean())


def _speech_frames(speech: Stretches, frames: int, fps: float) -> NDArray[np.bool_]:
    """Whether each frame has speech; the detector's times are rounded to tenths of a second, as there."""
    spoken = np.zeros(frames, bool)
    for start, end in np.round(speech, 1):
        spoken[int(start * fps) : int(end * fps) + 1] = True
    return spoken


def _volume(sound: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and root mean squares of blocks that are centred on multiples of their length, with zeros around the sound."""
    block = int(SAMPLE_RATE * VOLUME_BLOCK)
    padded = np.pad(np.asarray(sound, np.float64), block // 2)
    count = 1 + (len(padded) - block) // block
    blocks = padded[: count * block].reshape(count, block)
    return np.arange(count) * block / SAMPLE_RATE, np.sqrt((blocks**2).mean(axis=1))


def _scaled(values: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray((values - values.min()) / (np.ptp(values) + 1e-8), np.float64)


class THEval(Metric):
    """The four measures and the score."""

    name = "theval"
    hears = True

    def __init__(self) -> None:
        weights = bundled_digest("face_landmark.tflite")
        own = "THEval's formula and constants, on the project's face mesh"
        figures = {
            "theval_lips": f"Variance of the distances between lip points over time: {own}.",
            "theval_brows": f"Mean change of the height of the eyebrows from frame to frame: {own}.",
            "theval_silence": f"Median deviation of the opening of the lips from its mean, in silence: {own}, and Silero VAD.",
            "theval_sync": f"Mean difference of scaled opening and loudness in speech: {own}, and Silero VAD.",
        }
        decimals = {"theval_lips": 5, "theval_brows": 5, "theval_silence": 4, "theval_sync": 3}
        columns: list[Column] = [
            metric_column("theval", key, "neither", decimals[key], text, weights) for key, text in figures.items()
        ]
        score = (
            "Mean over these four figures of 1 - |m - t| / |t|, with m the row's and t the ground truth's: THEval's formula, which "
            "has eight figures there; no score of its leaderboard."
        )
        columns.append(
            metric_column("theval", "theval_score", "higher", 3, score, weights, kind="closeness", parts=tuple(figures))
        )
        self.columns = tuple(columns)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Measure the four; silence and sync only where there is sound with a pause and with speech.

        Raises:
            InputError: No frame shows the face.
        """
        (points, _), seen, fps = clip.track, clip.seen, clip.protocol.fps
        if not seen.any():
            raise InputError("No frame shows the face.")
        values = {"theval_lips": lip_dynamics(points[seen]), "theval_brows": eyebrow_dynamics(points[seen])}

        def sync() -> dict[str, float]:
            if clip.sound is None:
                return {}
            return {"theval_sync": lip_sync(points, seen, clip.sound, clip.voiced, fps)}

        def silence() -> dict[str, float]:
            if clip.sound is None or silent_frames(clip.voiced, len(points), fps).sum() < 2:
                return {}  # most short clips have no pause; the table says how many have
            return {"theval_silence": silent_lip_stability(points, seen, clip.voiced, fps)}

        return gather(lambda: values, sync, silence)


def standard(device: str = "cpu") -> THEval:
    """The only implementation, with the bundled face mesh."""
    return THEval()
