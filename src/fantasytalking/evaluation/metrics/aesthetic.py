"""Aesthetic: the LAION predictor on CLIP features (paper, table 1), score over 10. Proxy: image statistics, which know nothing of taste."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.picture_statistics import appeal
from fantasytalking.evaluation.results import Column

__all__ = ["Aesthetic", "proxy", "standard"]


class Aesthetic(Metric):
    """Mean score of every n-th frame.

    Args:
        score: uint8 [N, H, W, 3] -> mean score.
        column: The column that it fills.
    """

    name = "aesthetic"

    def __init__(self, score: Callable[[Frames], float], column: Column) -> None:
        self.score, self.columns = score, (column,)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Score the clip's images."""
        return Measurement({self.columns[0].key: self.score(clip.images)})


def proxy(device: str = "cpu") -> Aesthetic:
    """appeal-stats: sharpness, contrast and colourfulness."""
    definition = (
        "Mean of sharpness (logarithm of the Laplacian's variance), contrast and colourfulness (Hasler and Suesstrunk), each in 0..1, of "
        "every n-th frame. Statistics, not taste: not the LAION predictor."
    )
    column = metric_column("aesthetic", "aesthetic", "higher", 4, definition, proxy_label="appeal-stats")
    return Aesthetic(lambda images: float(np.mean([appeal(image) for image in images])), column)


def standard(device: str = "cpu") -> Aesthetic:
    """Aesthetic, with the LAION predictor."""
    from fantasytalking.evaluation.networks import laion_aesthetic
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = laion_aesthetic.load(device=device)
    definition = "LAION aesthetic predictor (linear head on CLIP ViT-L/14) over 10, mean of every n-th frame."
    weights = {key: digest(key) for key in ("clip", "aesthetic")}
    column = metric_column("aesthetic", "aesthetic", "higher", 4, definition, weights)
    return Aesthetic(lambda images: float(np.mean(network.scores(images)) / 10), column)
