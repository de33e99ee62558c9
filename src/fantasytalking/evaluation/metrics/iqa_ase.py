"""IQA and ASE: quality and aesthetics by Q-Align (arXiv:2312.17090), 1 to 5.

Proxy of IQA: distance of the natural scene statistics from the reference's. ASE has no proxy, as it would be the same number as
`appeal-stats` of `aesthetic.py`.
"""

from __future__ import annotations

import numpy as np

from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.picture_statistics import natural_distance, natural_features

__all__ = ["NaturalDistance", "QAlign", "proxy", "standard"]

_TASKS = {"iqa": "quality", "ase": "aesthetics"}


def _all_features(images: Frames) -> np.ndarray:
    return np.concatenate([natural_features(image) for image in images])


class NaturalDistance(Metric):
    """NIQE's arithmetic, with the reference clip in place of its pristine images."""

    name = "qalign"
    compares = True

    def __init__(self) -> None:
        definition = (
            "Distance between the natural scene statistics (those of NIQE) of every n-th frame of the generated and of the real clip; 0 "
            "for equal pictures. Not Q-Align: no opinion of people is in it."
        )
        self.columns = (metric_column("qalign", "iqa", "lower", 3, definition, proxy_label="NSS-distance"),)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the clip's images with the reference's."""
        found = natural_distance(_all_features(clip.images), _all_features(reference.images))
        return Measurement({self.columns[0].key: found})


class QAlign(Metric):
    """Mean quality and aesthetics of every n-th frame."""

    name = "qalign"

    def __init__(self, device: str) -> None:
        from fantasytalking.evaluation.networks import qalign
        from fantasytalking.evaluation.networks.metric_weights import digest

        self.network = qalign.load(device=device)
        weights = {"qalign": digest("qalign")}
        self.columns = tuple(
            metric_column(
                "qalign",
                key,
                "higher",
                3,
                f"Q-Align (one-align) score of {task}, 1 to 5, mean of every n-th frame.",
                weights,
            )
            for key, task in _TASKS.items()
        )

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Score the clip's images."""
        return Measurement(
            {key: float(np.mean(self.network.scores(clip.images, task))) for key, task in _TASKS.items()}
        )


def proxy(device: str = "cpu") -> NaturalDistance:
    """NSS-distance, by natural scene statistics."""
    return NaturalDistance()


def standard(device: str = "cpu") -> QAlign:
    """IQA and ASE, with Q-Align."""
    return QAlign(device)
