"""Correlation of mouth opening over time with that of the real clip (ours, not one of the paper's metrics)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Curve
from fantasytalking.perception.landmarks import mouth_opening

__all__ = ["MouthOpening", "correlation", "standard"]

MIN_FRAMES = 10
STILL_MOUTH = 5e-4
"""Standard deviation of the opening, in face heights, below which a mouth is still: still images have 0.0001, speech 0.007 and more."""


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Pearson r of two curves [F]; 0 where one of them is constant, as a still mouth follows nothing."""
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
        self.columns = (metric_column("mouth", "mouth", "higher", 3, definition, weights),)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Correlate the two curves over their common length.

        Raises:
            InputError: Fewer than ten common frames show both faces.
        """
        length = min(len(clip.frames), len(reference.frames))
        seen = clip.seen[:length] & reference.seen[:length]
        if int(seen.sum()) < MIN_FRAMES:
            raise InputError(f"Both faces are seen in {int(seen.sum())} frames; at least {MIN_FRAMES} are needed.")
        curves = {
            name: mouth_opening(footage.track[0][:length])
            for name, footage in (("mouth", clip), ("mouth_reference", reference))
        }
        moved = all(float(curve[seen].std()) > STILL_MOUTH for curve in curves.values())
        r = correlation(curves["mouth"][seen], curves["mouth_reference"][seen]) if moved else 0.0
        seconds = tuple(float(t) for t in np.flatnonzero(seen) / clip.protocol.fps)
        lines = {name: Curve(seconds, tuple(float(v) for v in curve[seen])) for name, curve in curves.items()}
        return Measurement({self.columns[0].key: r}, curves=lines)


def standard(device: str = "cpu") -> MouthOpening:
    """The only implementation, with the bundled face mesh."""
    return MouthOpening()
