"""Sparse matrices of weights: a row for each place of a raster, a column for each point that carries motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fantasytalking.autoencoder.openings import Edge

__all__ = ["Rows", "barycentric", "mixed", "shifted", "smoothed"]

Array = NDArray[np.float32]


class Rows:
    """Sparse rows of weights, one for each point of a raster, collected as triplets."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Array]] = []

    def add(self, rows: NDArray[np.int64], columns: NDArray[np.int64], weights: Array) -> None:
        """Add entries: rows [N], columns and weights [N, k]."""
        self.parts.append((np.repeat(rows, columns.shape[1]), columns.ravel(), weights.ravel().astype(np.float32)))

    def matrix(self, rows: int) -> Any:
        """All entries as a CSR matrix [rows, columns]; equal places are summed."""
        row, column, weight = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        made = sparse.csr_matrix((weight, (row, column)), (rows, self.columns), dtype=np.float32)
        made.eliminate_zeros()
        return made


def barycentric(places: Array, corners: Array) -> Array:
    """Barycentric weights [N, 3] of places [N, 2] in triangles with corners [N, 3, 2], none of them negative."""
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = places - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    second = (p[:, 0] * ac[:, 1] - p[:, 1] * ac[:, 0]) / area
    third = (ab[:, 0] * p[:, 1] - ab[:, 1] * p[:, 0]) / area
    # A filled triangle includes its border, where a sliver's weights are wild.
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def mixed(rows: Any, share: Array, parts: list[tuple[Edge, Array]], u: Array) -> Any:
    """Replace a share of every row [N] by weighted points of edges at the places u."""
    chosen = np.flatnonzero(share > 0)
    added = Rows(rows.shape[1])
    for edge, weight in parts:
        points, shares = edge.shares(u[chosen])
        added.add(chosen, points, shares * (weight * share)[chosen, None])
    return (sparse.diags_array(1 - share) @ rows + added.matrix(rows.shape[0])).tocsr().astype(np.float32)


def shifted(rows: Any, share: Array, edge: Edge, far: Edge, u: Array) -> Any:
    """Add to every row [N] a share of the difference between two edges at the places u."""
    chosen = np.flatnonzero(share > 0)
    added = Rows(rows.shape[1])
    for line, sign in ((edge, 1.0), (far, -1.0)):
        points, shares = line.shares(u[chosen])
        added.add(chosen, points, sign * shares * share[chosen, None])
    return (rows + added.matrix(rows.shape[0])).tocsr().astype(np.float32)


def smoothed(rows: Any, share: Array, spacing: int) -> Any:
    """Replace a share of every row by the weighted mean of the rows around it on the raster.

    Args:
        rows: Matrix [h * w, columns].
        share: [h, w], 0 to 1.
        spacing: Distance of the 5 x 5 places that are averaged, in steps of the raster.
    """
    height, width = share.shape
    chosen = np.flatnonzero(share > 0.01)
    if not len(chosen):
        return rows
    y, x = np.divmod(chosen, width)
    mean = Rows(height * width)
    bell = np.array([1, 4, 6, 4, 1], np.float32) / 16
    for down, vertical in zip(range(-2, 3), bell, strict=True):
        for right, horizontal in zip(range(-2, 3), bell, strict=True):
            beside = np.clip(y + spacing * down, 0, height - 1) * width + np.clip(x + spacing * right, 0, width - 1)
            mean.add(chosen, beside[:, None], (vertical * horizontal * share.ravel()[chosen])[:, None])
    kept = np.ones(height * width, np.float32)
    kept[chosen] -= share.ravel()[chosen]
    return (sparse.diags_array(kept) @ rows + mean.matrix(height * width) @ rows).tocsr().astype(np.float32)
