"""Motion of the head against that of the real clip (ours, not one of the paper's metrics).

Letters: F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from fantasytalking.errors import InputError

__all__ = ["HeadMotion", "head_motion"]

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
