"""IQA and ASE: quality and aesthetics by Q-Align (arXiv:2312.17090), 1 to 5. Proxy of IQA: distance of natural scene statistics from the
reference's; ASE has none of its own, as `appeal-stats` of `aesthetic.py` would be the same number again.
"""

from __future__ import annotations

import numpy as np

from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.picture_statistics import natural_distance, natural_features
from fantasytalking.evaluation.results import Column

__all__ = ["NaturalDistance", "QAlign", "proxy", "standard"]


def _all_features(images: Frames) -> np.ndarray:
    return np.concatenate([natural_features(image) for image in images])


class NaturalDistance(Metric):
    """NIQE's arithmetic with the reference clip in the place of its pristine pictures."""

    name = "qalign"
    compares = True

    def __init__(self) -> None:
        definition = (
            "Distance between the natural scene statistics (those of NIQE) of every n-th frame of the generated and of the real clip; 0 "
            "for equal pictures. Not Q-Align: no opinion of people is in it."
        )
        self.columns = (Column("iqa", "NSS-distance", "IQA", True, "lower", "", 3, "mean", definition),)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Compare the clip's images with the reference's."""
        found = natural_distance(_all_features(made.images), _all_features(true.images))
        return Measurement({self.columns[0].key: found})


class QAlign(Metric):
    """Mean quality and aesthetics of every n-th frame."""

    name = "qalign"

    def __init__(self, device: str) -> None:
        from fantasytalking.evaluation.networks import qalign
        from fantasytalking.evaluation.networks.metric_weights import digest

        self.network = qalign.load(device=device)
        weights = {"qalign": digest("qalign")}
        what = {"iqa": ("IQA", "quality"), "ase": ("ASE", "aesthetics")}
        self.columns = tuple(
            Column(
                key,
                label,
                label,
                False,
                "higher",
                "",
                3,
                "mean",
                f"Q-Align (one-align) score of {word}, 1 to 5, mean of every n-th frame.",
                weights,
            )
            for key, (label, word) in what.items()
        )

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Score the clip's images."""
        tasks = {"iqa": "quality", "ase": "aesthetics"}
        return Measurement({key: float(np.mean(self.network.scores(made.images, task))) for key, task in tasks.items()})


def proxy(device: str = "cpu") -> NaturalDistance:
    """Natural scene statistics."""
    return NaturalDistance()


def standard(device: str = "cpu") -> QAlign:
    """With Q-Align."""
    return QAlign(device)
