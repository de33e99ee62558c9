"""Sharpness of the face against the real clip's (ours): 1 is as sharp as the truth."""

from __future__ import annotations

import numpy as np

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.picture_statistics import laplacian_variance
from fantasytalking.evaluation.results import Column

__all__ = ["FaceSharpness", "standard"]


def _face_sharpness(footage: Footage) -> float:
    """Median over every n-th frame that shows the face."""
    boxes = list(footage.face_boxes())
    chosen = [i for i in range(0, len(footage.frames), footage.protocol.image_stride) if footage.seen[i]]
    if not chosen:
        raise InputError("No frame looked at shows the face.")
    return float(np.median([laplacian_variance(footage.frames[i], boxes[i]) for i in chosen]))


class FaceSharpness(Metric):
    """Variance of the Laplacian over the face's box, as a ratio."""

    name = "sharpness"
    compares = True

    def __init__(self) -> None:
        definition = (
            "Variance of the Laplacian over the face's box, median of every n-th frame, generated over real clip: 1 is as sharp as the "
            "truth. Noise counts as sharpness."
        )
        self.columns = (Column("sharpness", "sharpness", "", False, "neither", "", 3, "mean", definition),)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Compare the two faces.

        Raises:
            InputError: a clip without a face.
        """
        ratio = _face_sharpness(made) / max(_face_sharpness(true), 1e-9)
        return Measurement({self.columns[0].key: ratio})


def standard(device: str = "cpu") -> FaceSharpness:
    """Arithmetic; there is no network in it."""
    return FaceSharpness()


proxy = standard
