"""How well the mouth follows the real one: correlation of mouth opening over time (ours; no network of the paper stands behind it)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column, Curve
from fantasytalking.perception.landmarks import mouth_opening

__all__ = ["MouthOpening", "correlation", "standard"]

MIN_FRAMES = 10
STILL_MOUTH = 5e-4
"""Deviation of the opening, in heights of the face, below which a mouth is still: of still pictures 0.0001, of speech 0.007 and more."""


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson r of two curves [F]; 0 where one of them is constant, since a still mouth follows nothing."""
    x, y = np.asarray(a, np.float64) - np.mean(a), np.asarray(b, np.float64) - np.mean(b)
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 1e-12 else 0.0


class MouthOpening(Metric):
    """Gap of the inner lips over the height of the face, generated against real, frame by frame."""

    name = "mouth"
    compares = True

    def __init__(self) -> None:
        definition = (
            "Pearson correlation over time of the gap of the inner lips over the height of the face, generated against real clip, over the "
            "frames of both that show the face; 0 for a still mouth."
        )
        weights = bundled_digest("face_landmark.tflite")
        self.columns = (Column("mouth", "mouth r", "", False, "higher", "", 3, "mean", definition, weights),)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Correlate over the common length.

        Raises:
            InputError: fewer than ten common frames show both faces.
        """
        length = min(len(made.frames), len(true.frames))
        seen = made.seen[:length] & true.seen[:length]
        if int(seen.sum()) < MIN_FRAMES:
            raise InputError(f"Both faces are seen in {int(seen.sum())} frames; at least {MIN_FRAMES} are needed.")
        curves = {
            name: mouth_opening(footage.track[0][:length])
            for name, footage in (("mouth", made), ("mouth_reference", true))
        }
        moved = all(float(curve[seen].std()) > STILL_MOUTH for curve in curves.values())
        r = correlation(curves["mouth"][seen], curves["mouth_reference"][seen]) if moved else 0.0
        seconds = tuple(float(t) for t in np.flatnonzero(seen) / made.protocol.fps)
        lines = {name: Curve(seconds, tuple(float(v) for v in curve[seen])) for name, curve in curves.items()}
        return Measurement({self.columns[0].key: r}, curves=lines)


def standard(device: str = "cpu") -> MouthOpening:
    """With the bundled face mesh; there is no other one."""
    return MouthOpening()


proxy = standard
