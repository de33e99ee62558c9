"""FID: Frechet distance of single pictures, against the real clips (paper, table 1).

Standard: Inception with the TensorFlow weights of the original FID, 2048 features. Proxy: the mean-pooled last block of MobileNetV2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.proxies import mobilenet, mobilenet_digest
from fantasytalking.evaluation.results import Column

__all__ = ["ImageFrechet", "proxy", "standard"]


class ImageFrechet(Metric):
    """Features of every n-th frame.

    Args:
        features: uint8 [N, H, W, 3] -> float32 [N, d].
        column: what it fills.
    """

    name = "fid"

    def __init__(self, features: Callable[[Frames], NDArray[np.float32]], column: Column) -> None:
        self.features, self.columns = features, (column,)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Features of the clip's images; the distance is taken over all clips."""
        return Measurement(features={self.columns[0].key: self.features(made.images)})


def proxy(device: str = "cpu") -> ImageFrechet:
    """With the bundled MobileNetV2."""
    definition = (
        "Squared Frechet distance between Gaussians fitted to MobileNetV2 features (320, mean-pooled last block, ImageNet) of every "
        "n-th frame of the generated and of the real clips. Not FID: another network, other numbers."
    )
    column = Column("fid", "FD-mobilenet", "FID", True, "lower", "", 3, "frechet", definition, mobilenet_digest())
    return ImageFrechet(mobilenet().features, column)


def standard(device: str = "cpu") -> ImageFrechet:
    """With FID's own Inception."""
    from fantasytalking.evaluation.networks import inception
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = inception.load(device=device)
    definition = (
        "Squared Frechet distance between Gaussians fitted to Inception features (2048, pt_inception-2015-12-05) of every n-th frame "
        "of the generated and of the real clips, resized to 299 x 299 as pytorch-fid does (bilinear, no antialiasing)."
    )
    weights = {"inception": digest("inception")}
    return ImageFrechet(
        network.features, Column("fid", "FID", "FID", False, "lower", "", 2, "frechet", definition, weights)
    )
