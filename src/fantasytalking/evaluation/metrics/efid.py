"""E-FID: Frechet distance of expressions, against the real clips (EMO, arXiv:2402.17485; not in the paper's tables).

Standard: expression coefficients of Deep3DFaceRecon (64). Proxy: expression of the bundled face mesh (24). Every frame that shows the
face counts.
"""

from __future__ import annotations

from fantasytalking.evaluation.metrics.frechet_metric import FrechetMetric
from fantasytalking.evaluation.metrics.proxies import expressions, mesh_digest

__all__ = ["proxy", "standard"]


def proxy(device: str = "cpu") -> FrechetMetric:
    """FD-expression-mesh, with the bundled face mesh."""
    fitted_to = (
        "24 expression coefficients of the pose-free face mesh, frame by frame, "
        "of the generated and of the real clips. Not E-FID: other features, other numbers."
    )
    return FrechetMetric("efid", expressions, fitted_to, mesh_digest(), 3, "FD-expression-mesh")


def standard(device: str = "cpu") -> FrechetMetric:
    """E-FID, with Deep3DFaceRecon."""
    from fantasytalking.evaluation.networks import deep3d
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = deep3d.load(device=device)
    fitted_to = (
        "the 64 expression coefficients of Deep3DFaceRecon, frame by frame, of the generated and of the real clips."
    )
    return FrechetMetric(
        "efid",
        lambda clip: network.expressions(clip.frames[clip.seen], clip.track[0][clip.seen]),
        fitted_to,
        {"deep3d": digest("deep3d")},
        3,
    )
