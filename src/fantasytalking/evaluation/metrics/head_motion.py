"""Motion of the head against that of the real clip (ours, not one of the paper's metrics).

Letters: F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import savgol_filter

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.perception.face_measures import head_angles

__all__ = ["HeadMotion", "HeadRatios", "head_motion", "speech_correlation", "standard"]

STILL_HEAD = 0.02
"""Spread of an angle, in degrees, below which a head is still: that of a still image is 0, the least of 45 real clips 0.16."""

WINDOW = 0.36
"""Seconds over which angles are smoothed by a cubic polynomial (Savitzky and Golay): the jitter of a mesh in each frame, multiplied by the
third power of the frame rate, would be all of the jerk."""
_ORDER = 3
QUIET = 40.0
"""Decibels below the loudest tenth of a second from which on all sound counts as equally quiet."""


@dataclass(frozen=True)
class HeadMotion:
    """How a head moves.

    Attributes:
        spread: Standard deviation of yaw, pitch and roll, in degrees.
        speed: Root mean square of the angular velocity, in degrees a second.
        jerk: Root mean square of the third derivative of the angles, in degrees per second cubed.
    """

    spread: tuple[float, float, float]
    speed: float
    jerk: float


def head_motion(angles: NDArray[np.floating], fps: float) -> HeadMotion:
    """Measure how a head moves.

    Args:
        angles: `face_measures.head_angles` [F, 3], in degrees.
        fps: Frames per second.

    Raises:
        InputError: There are fewer frames than the smoothing needs, 0.36 s.
    """
    angles = np.asarray(angles, np.float64)
    yaw, pitch, roll = np.unwrap(angles, axis=0, period=360).std(axis=0)
    speed, jerk = (_derivative(angles, fps, order) for order in (1, 3))
    return HeadMotion((float(yaw), float(pitch), float(roll)), _length(speed), _length(jerk))


def speech_correlation(angles: NDArray[np.floating], sound: NDArray[np.float32], fps: float) -> float:
    """Measure whether a head moves more where the speech is louder, and rests in pauses: Pearson's r of its speed and the sound's level.

    Both are smoothed over `WINDOW`; the level is in decibels, down to `QUIET` below the loudest place.

    Args:
        angles: `face_measures.head_angles` [F, 3], in degrees.
        sound: Sound at 16 kHz [n], from the first frame on.
        fps: Frames per second.

    Raises:
        InputError: There are fewer frames than the smoothing needs, or head or sound do not change.
    """
    speed = np.sqrt((_derivative(np.asarray(angles, np.float64), fps, 1) ** 2).sum(axis=1))
    bounds = np.round(np.arange(len(angles) + 1) / fps * SAMPLE_RATE).astype(int)
    squares = np.concatenate([[0.0], np.cumsum(np.asarray(sound, np.float64) ** 2)])
    bounds = np.minimum(bounds, len(sound))
    power = np.diff(squares[bounds]) / np.maximum(np.diff(bounds), 1)
    width = max(1, round(WINDOW * fps))
    power, speed = (uniform_filter1d(values, width, mode="nearest") for values in (power, speed))
    level = 10 * np.log10(np.maximum(power, 10 ** (-QUIET / 10) * power.max(initial=0.0)) + 1e-12)
    if min(speed.std(), level.std()) < 1e-6:
        raise InputError("Head or sound do not change, so nothing can follow anything.")
    return float(np.corrcoef(speed, level)[0, 1])


def _derivative(angles: NDArray[np.floating], fps: float, order: int) -> NDArray[np.float64]:
    """Derivative of angles [F, 3] in degrees, smoothed over `WINDOW`."""
    window = max(_ORDER + 2, 2 * round(WINDOW * fps / 2) + 1)
    if len(angles) < window:
        raise InputError(f"The face is seen in {len(angles)} frames in a row; the head's motion needs {window}.")
    steady = np.unwrap(angles, axis=0, period=360)
    return np.asarray(savgol_filter(steady, window, _ORDER, deriv=order, delta=1 / fps, axis=0, mode="interp"))


def _length(values: NDArray[np.float64]) -> float:
    """Root mean square of the length of vectors [F, 3]."""
    return float(np.sqrt((values**2).sum(axis=1).mean()))


class HeadRatios(Metric):
    """Spread, speed and jerk of a head over those of the real one, and whether it moves with the speech."""

    name = "head"
    compares = True

    def __init__(self) -> None:
        what = "over that of the real clip; median over clips"
        weights = bundled_digest("face_landmark.tflite")
        smooth = f"of yaw, pitch and roll together, smoothed over {WINDOW:g} s, root mean square"
        figures = {
            "yaw_spread": f"Standard deviation of the head's yaw over time, {what}.",
            "pitch_spread": f"Standard deviation of the head's pitch over time, {what}.",
            "roll_spread": f"Standard deviation of the head's roll over time, {what}.",
            "head_speed": f"Angular velocity {smooth}, {what}.",
            "head_jerk": f"Third derivative {smooth}, {what}.",
        }
        self.columns = tuple(
            metric_column("head", key, "neither", 2, definition, weights, kind="median")
            for key, definition in figures.items()
        )
        with_speech = (
            f"Correlation of the head's angular velocity with the level of the sound, both smoothed over {WINDOW:g} s; "
            "median over clips."
        )
        self.columns += (metric_column("head", "head_with_speech", "neither", 2, with_speech, weights, kind="median"),)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the longest stretches that show the faces.

        Raises:
            InputError: One of them is too short, or the real head is still.
        """
        angles = [head_angles(f.track[0][f.longest_run]) for f in (clip, reference)]
        made, real = (head_motion(each, f.protocol.fps) for each, f in zip(angles, (clip, reference), strict=True))
        if min(real.spread) < STILL_HEAD:
            raise InputError("The head of the real clip is still, and nothing can be compared with its motion.")
        numbers = zip((*made.spread, made.speed, made.jerk), (*real.spread, real.speed, real.jerk), strict=True)
        values: dict[str, float] = {column.key: a / b for column, (a, b) in zip(self.columns, numbers, strict=False)}
        if clip.sound is None:
            return Measurement(values)
        start = round(clip.longest_run.start / clip.protocol.fps * SAMPLE_RATE)
        try:
            values["head_with_speech"] = speech_correlation(angles[0], clip.sound[start:], clip.protocol.fps)
        except InputError as error:
            return Measurement(values, notes=(str(error),))
        return Measurement(values)


def standard(device: str = "cpu") -> HeadRatios:
    """The only implementation, with the bundled face mesh."""
    return HeadRatios()
