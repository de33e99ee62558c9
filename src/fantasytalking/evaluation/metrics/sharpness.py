"""Sharpness of the face over that of the real clip (ours): 1 is as sharp as the real clip."""

from __future__ import annotations

import numpy as np

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.picture_statistics import laplacian_variance

__all__ = ["FaceSharpness", "standard"]


def _face_sharpness(footage: Footage) -> float:
    """Median over every n-th frame that shows the face."""
    boxes = list(footage.face_boxes())
    chosen = [i for i in range(0, len(footage.frames), footage.protocol.image_stride) if footage.seen[i]]
    if not chosen:
        raise InputError("No frame looked at shows the face.")
    return float(np.median([laplacian_variance(footage.frames[i], boxes[i]) for i in chosen]))


class FaceSharpness(Metric):
    """Ratio of the variances of the Laplacian over the face's box."""

    name = "sharpness"
    compares = True

    def __init__(self) -> None:
        definition = (
            "Variance of the Laplacian over the face's box, median of every n-th frame, generated over real clip: 1 is as sharp as the "
            "truth. Noise counts as sharpness."
        )
        self.columns = (metric_column("sharpness", "sharpness", "neither", 3, definition),)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the two faces.

        Raises:
            InputError: A clip without a face.
        """
        ratio = _face_sharpness(clip) / max(_face_sharpness(reference), 1e-9)
        return Measurement({self.columns[0].key: ratio})


def standard(device: str = "cpu") -> FaceSharpness:
    """The only implementation: arithmetic without any network."""
    return FaceSharpness()
