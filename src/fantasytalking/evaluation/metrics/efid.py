"""E-FID: Frechet distance of expressions, against the real clips (EMO, arXiv:2402.17485; not in the paper's tables).

Standard: expression coefficients of Deep3DFaceRecon (64). Proxy: expression of the bundled face mesh (24).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.proxies import expressions, mesh_digest
from fantasytalking.evaluation.results import Column

__all__ = ["ExpressionFrechet", "proxy", "standard"]


class ExpressionFrechet(Metric):
    """Expressions of every frame that shows the face.

    Args:
        features: footage -> float32 [n, d].
        column: what it fills.
    """

    name = "efid"

    def __init__(self, features: Callable[[Footage], NDArray[np.float32]], column: Column) -> None:
        self.features, self.columns = features, (column,)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Expressions of the clip; the distance is taken over all clips."""
        return Measurement(features={self.columns[0].key: self.features(made)})


def proxy(device: str = "cpu") -> ExpressionFrechet:
    """With the bundled face mesh."""
    definition = (
        "Squared Frechet distance between Gaussians fitted to 24 expression coefficients of the pose-free face mesh, frame by frame, "
        "of the generated and of the real clips. Not E-FID: other features, other numbers."
    )
    column = Column("efid", "FD-expression-mesh", "E-FID", True, "lower", "", 3, "frechet", definition, mesh_digest())
    return ExpressionFrechet(expressions, column)


def standard(device: str = "cpu") -> ExpressionFrechet:
    """With Deep3DFaceRecon."""
    from fantasytalking.evaluation.networks import deep3d
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = deep3d.load(device=device)
    definition = (
        "Squared Frechet distance between Gaussians fitted to the 64 expression coefficients of Deep3DFaceRecon, frame by frame, of the "
        "generated and of the real clips."
    )
    weights = {"deep3d": digest("deep3d")}
    column = Column("efid", "E-FID", "E-FID", False, "lower", "", 3, "frechet", definition, weights)
    return ExpressionFrechet(
        lambda footage: network.expressions(footage.frames[footage.seen], footage.track[0][footage.seen]), column
    )
