"""Motion of the head against that of the real clip (ours, not one of the paper's metrics).

Letters: F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.perception.face_measures import head_angles

__all__ = ["HeadMotion", "HeadRatios", "head_motion", "standard"]

STILL_HEAD = 0.02
"""Spread of an angle, in degrees, below which a head is still: that of a still image is 0, the least of 45 real clips 0.16."""

WINDOW = 0.36
"""Seconds over which angles are smoothed by a cubic polynomial (Savitzky and Golay): the jitter of a mesh in each frame, multiplied by the
third power of the frame rate, would be all of the jerk."""
_ORDER = 3


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
    angles = np.unwrap(np.asarray(angles, np.float64), axis=0, period=360)
    window = max(_ORDER + 2, 2 * round(WINDOW * fps / 2) + 1)
    if len(angles) < window:
        raise InputError(f"The face is seen in {len(angles)} frames in a row; the head's motion needs {window}.")
    yaw, pitch, roll = angles.std(axis=0)
    speed, jerk = (
        savgol_filter(angles, window, _ORDER, deriv=order, delta=1 / fps, axis=0, mode="interp") for order in (1, 3)
    )
    return HeadMotion((float(yaw), float(pitch), float(roll)), _length(speed), _length(jerk))


def _length(values: NDArray[np.float64]) -> float:
    """Root mean square of the length of vectors [F, 3]."""
    return float(np.sqrt((values**2).sum(axis=1).mean()))


class HeadRatios(Metric):
    """Spread, speed and jerk of a head over those of the real one."""

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

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the longest stretches that show the faces.

        Raises:
            InputError: One of them is too short, or the real head is still.
        """
        made, real = (head_motion(head_angles(f.track[0][f.longest_run]), f.protocol.fps) for f in (clip, reference))
        if min(real.spread) < STILL_HEAD:
            raise InputError("The head of the real clip is still, and nothing can be compared with its motion.")
        numbers = zip((*made.spread, made.speed, made.jerk), (*real.spread, real.speed, real.jerk), strict=True)
        return Measurement({column.key: a / b for column, (a, b) in zip(self.columns, numbers, strict=True)})


def standard(device: str = "cpu") -> HeadRatios:
    """The only implementation, with the bundled face mesh."""
    return HeadRatios()
