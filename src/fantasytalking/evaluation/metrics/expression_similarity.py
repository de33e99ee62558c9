"""ES: expression similarity, similarity of facial features between frames (paper, section 4.1).

Standard: expression coefficients of Deep3DFaceRecon (64). Proxy: expression of the bundled face mesh (24). Both reward stillness.
The proxy rewards re-encoding too: recompressed clips mostly have a higher value than the clips themselves, probably because a codec
smooths small motions (docs/evaluation.md, "Metrics that reward damage"). Whether the standard does has not been measured here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, between_frames
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import expressions, mesh_digest
from fantasytalking.evaluation.results import Column

__all__ = ["ExpressionSimilarity", "proxy", "standard"]


class ExpressionSimilarity(Metric):
    """Similarity of expressions within a clip.

    Args:
        features: Footage -> float32 [n, d], frames without a face left out.
        column: The column that it fills.
    """

    name = "es"

    def __init__(self, features: Callable[[Footage], NDArray[np.float32]], column: Column) -> None:
        self.features, self.columns = features, (column,)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compare the clip's frames, see `metric.between_frames`.

        Raises:
            InputError: Fewer than two frames show a face.
        """
        found = self.features(clip)
        if len(found) < 2:
            raise InputError(f"The face is seen in {len(found)} frames; at least 2 are needed.")
        return Measurement({self.columns[0].key: between_frames(found)})


_HOW = "between frames: mean cosine with the first and with the previous frame, mean over frames"


def proxy(device: str = "cpu") -> ExpressionSimilarity:
    """expression-mesh, with the bundled face mesh."""
    definition = (
        f"Similarity of 24 expression coefficients of the pose-free face mesh {_HOW}. Not ES: other features. Rewards stillness and "
        "recompression."
    )
    column = metric_column("es", "es", "higher", 4, definition, mesh_digest(), proxy_label="expression-mesh")
    return ExpressionSimilarity(expressions, column)


def standard(device: str = "cpu") -> ExpressionSimilarity:
    """ES, with Deep3DFaceRecon."""
    from fantasytalking.evaluation.networks import deep3d
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = deep3d.load(device=device)
    definition = f"Similarity of the 64 expression coefficients of Deep3DFaceRecon {_HOW}. Rewards stillness; recompression may raise it."
    weights = {"deep3d": digest("deep3d")}
    column = metric_column("es", "es", "higher", 4, definition, weights)
    return ExpressionSimilarity(
        lambda clip: network.expressions(clip.frames[clip.seen], clip.track[0][clip.seen]), column
    )
