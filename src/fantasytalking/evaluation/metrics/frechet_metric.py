"""The common form of FID, FVD and E-FID: features of each clip, compared as two sets by their Frechet distance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column

__all__ = ["FrechetMetric"]


class FrechetMetric(Metric):
    """Features of every clip; the distance is taken over all clips.

    Args:
        name: Key in `registry.METRICS`, which is also the key of its only column.
        features: Footage -> float32 [n, d].
        fitted_to: The definition from "Gaussians fitted to" on.
        weights: Name -> SHA-256 of every file of weights.
        decimals: Decimals shown in the table.
        proxy_label: Name of a proxy's column; "" for the standard implementation.
    """

    def __init__(
        self,
        name: str,
        features: Callable[[Footage], NDArray[np.float32]],
        fitted_to: str,
        weights: Mapping[str, str],
        decimals: int,
        proxy_label: str = "",
    ) -> None:
        self.name, self.features = name, features
        definition = f"Squared Frechet distance between Gaussians fitted to {fitted_to}"
        column = metric_column(
            name, name, "lower", decimals, definition, weights, proxy_label=proxy_label, kind="frechet"
        )
        self.columns = (column,)

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Compute the features of a clip.

        Raises:
            InputError: The clip has no features, for example because it is too short or shows no face.
        """
        return Measurement(features={self.columns[0].key: self.features(clip)})
