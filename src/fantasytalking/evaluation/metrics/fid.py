"""FID: Frechet distance of single images, against the real clips (paper, table 1).

Standard: Inception with the TensorFlow weights of the original FID, 2048 features. Proxy: the mean-pooled last block of MobileNetV2.
"""

from __future__ import annotations

from fantasytalking.evaluation.metrics.frechet_metric import FrechetMetric
from fantasytalking.evaluation.metrics.proxies import mobilenet, mobilenet_digest

__all__ = ["proxy", "standard"]


def proxy(device: str = "cpu") -> FrechetMetric:
    """FD-mobilenet, with the bundled MobileNetV2."""
    network = mobilenet()
    fitted_to = (
        "MobileNetV2 features (320, mean-pooled last block, ImageNet) of every "
        "n-th frame of the generated and of the real clips. Not FID: another network, other numbers."
    )
    return FrechetMetric(
        "fid", lambda clip: network.features(clip.images), fitted_to, mobilenet_digest(), 3, "FD-mobilenet"
    )


def standard(device: str = "cpu") -> FrechetMetric:
    """FID, with its own Inception network."""
    from fantasytalking.evaluation.networks import inception
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = inception.load(device=device)
    fitted_to = (
        "Inception features (2048, pt_inception-2015-12-05) of every n-th frame "
        "of the generated and of the real clips, resized to 299 x 299 as pytorch-fid does (bilinear, no antialiasing)."
    )
    weights = {"inception": digest("inception")}
    return FrechetMetric("fid", lambda clip: network.features(clip.images), fitted_to, weights, 2)
