"""The description of a figure in the report, named after the table of metrics."""

from __future__ import annotations

from collections.abc import Mapping

from fantasytalking.evaluation.metrics.registry import METRICS
from fantasytalking.evaluation.results import Better, Column, Kind

__all__ = ["metric_column"]


def metric_column(
    metric: str,
    key: str,
    better: Better,
    decimals: int,
    definition: str,
    weights: Mapping[str, str] | None = None,
    *,
    proxy_label: str = "",
    unit: str = "",
    kind: Kind = "mean",
    parts: tuple[str, ...] = (),
) -> Column:
    """Describe one figure of a metric.

    Args:
        metric: Key in `registry.METRICS`.
        key: Key of the figure in the metric's `figures`.
        better: Which direction is better.
        decimals: Decimals shown in the table.
        definition: One or two sentences that say exactly what is computed.
        weights: Name -> SHA-256 of every file of weights; None where nothing but arithmetic is used.
        proxy_label: Name of a proxy's figure; "" for the standard implementation, which has the published name.
        unit: Unit, or "".
        kind: How the clips of a row become its cell, see `Column`.
        parts: Keys of the columns that a `closeness` is made of.
    """
    entry = METRICS[metric]
    published = entry.figures[key]
    stands_for = published if entry.has_proxy else ""
    label = proxy_label or published
    return Column(
        key, label, stands_for, bool(proxy_label), better, unit, decimals, kind, definition, dict(weights or {}), parts
    )
