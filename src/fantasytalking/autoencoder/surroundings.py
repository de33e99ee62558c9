"""Motion of what surrounds the visible face: rings of points around its outline, from hair and ears to the still background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.rigid import similarity_2d
from fantasytalking.autoencoder.sparse_rows import barycentric
from fantasytalking.perception.mesh_points import FACE_OVAL, NUM_POINTS, TRIANGLES

__all__ = ["RING_GROWTH", "SECTORS", "Surroundings"]

Array = NDArray[np.float32]

# Rings are the visible outline grown about its centre. Head: share of the head's rigid motion that the ring takes; own: share of what
# the outline does beyond that (jaw opening, turning). The last ring stands still.
RING_GROWTH = (1.0, 1.12, 1.3, 1.6, 2.1, 3.0)
RING_HEAD = (1.0, 1.0, 1.0, 0.85, 0.4, 0.0)
RING_OWN = (1.0, 0.6, 0.25, 0.0, 0.0, 0.0)
# The same share below the chin: a neck bends, shoulders stay.
RING_HEAD_BELOW = (1.0, 1.0, 0.9, 0.55, 0.15, 0.0)
SECTORS = 72  # points of the outline and of each ring
_OVAL = np.asarray(FACE_OVAL)
_UPPER_OVAL = np.concatenate([_OVAL[:9], _OVAL[28:]])  # ear to ear over the forehead: moves with the skull only


class Surroundings:
    """Rings around the outline of what a photo shows of a face.

    Args:
        mesh: The portrait's mesh [468, 3] in pixels.
        labels: Number of the visible triangle at every place of a canvas around the mesh, -1 where there is none.
        canvas: The mesh's points on that canvas [468, 2].
        visible: Which triangles are visible [898].
    """

    def __init__(self, mesh: Array, labels: NDArray[np.int32], canvas: Array, visible: NDArray[np.bool_]) -> None:
        self.mesh = mesh
        seen = np.zeros(NUM_POINTS, bool)
        seen[TRIANGLES[visible].ravel()] = True
        fixed = _UPPER_OVAL[seen[_UPPER_OVAL]]
        self.skull = fixed if len(fixed) >= 6 else _UPPER_OVAL
        ys, xs = np.nonzero(labels >= 0)
        centre = np.array([xs.mean(), ys.mean()], np.float32)
        sector = np.round((np.arctan2(ys - centre[1], xs - centre[0]) / (2 * np.pi)) * SECTORS).astype(int) % SECTORS
        farthest_last = np.argsort(np.hypot(ys - centre[1], xs - centre[0]))
        chosen = np.full(SECTORS, -1)
        chosen[sector[farthest_last]] = farthest_last
        for number in np.flatnonzero(chosen < 0):  # a sector that nothing falls into takes its neighbour's
            chosen[number] = chosen[number - 1]
        spots = np.stack([xs[chosen], ys[chosen]], 1).astype(np.float32)
        self.outline_points = TRIANGLES[labels[ys[chosen], xs[chosen]]]
        self.outline_weights = barycentric(spots, canvas[self.outline_points])
        scale = np.ptp(canvas, axis=0) / np.maximum(np.ptp(mesh[:, :2], axis=0), 1e-6)
        self.centre = np.asarray((centre - canvas.min(0)) / scale + mesh[:, :2].min(0), np.float32)
        outline = self._outline(mesh[:, :2])
        self.rings = np.stack([self.centre + (outline - self.centre) * g for g in RING_GROWTH])
        below = outline[:, 1] - self.centre[1]
        below = np.clip(below / max(float(np.abs(below).max()), 1e-6), 0, 1)[None] ** 2
        above, under = np.asarray(RING_HEAD)[:, None], np.asarray(RING_HEAD_BELOW)[:, None]
        self.head_share = np.asarray(above + below * (under - above), np.float32)

    def _outline(self, points: Array) -> Array:
        """Places of the outline [..., SECTORS, 2] for mesh points [..., 468, 2]."""
        return np.asarray((points[..., self.outline_points, :] * self.outline_weights[..., None]).sum(-2), np.float32)

    def ring_points(self, points: Array) -> Array:
        """Positions of the rings [rings, SECTORS, 2] when the mesh moves to `points` [468, 2 or 3]; the first is the outline."""
        matrix, shift = similarity_2d(self.mesh[self.skull, :2], points[self.skull, :2])
        own = self._outline(points[:, :2]) - (self.rings[0] @ matrix.T + shift)
        moved = []
        for ring, head, share in zip(self.rings, self.head_share, RING_OWN, strict=True):
            moved.append(ring + head[:, None] * (ring @ matrix.T + shift - ring) + share * own)
        return np.stack(moved)

    def growth(self, places: Array) -> tuple[Array, NDArray[np.int64], Array]:
        """Distance of places [N, 2] from the centre in units of the outline's [N], the sectors around each [N, 2], their weights [N, 2]."""
        away, outline = places - self.centre, self.rings[0] - self.centre
        angles = np.mod(np.arctan2(outline[:, 1], outline[:, 0]), 2 * np.pi)
        order = np.argsort(angles)
        angle = np.mod(np.arctan2(away[:, 1], away[:, 0]), 2 * np.pi)
        right = np.searchsorted(angles[order], angle) % SECTORS
        sectors = np.stack([order[right - 1], order[right]], 1)
        span = np.mod(angles[sectors[:, 1]] - angles[sectors[:, 0]], 2 * np.pi)
        across = np.clip(np.mod(angle - angles[sectors[:, 0]], 2 * np.pi) / np.maximum(span, 1e-6), 0, 1)
        weights = np.stack([1 - across, across], 1)
        radius = (np.hypot(*outline.T)[sectors] * weights).sum(1)
        growth = np.hypot(*away.T) / np.maximum(radius, 1e-6)
        return np.asarray(growth, np.float32), sectors, np.asarray(weights, np.float32)

    def weights(self, places: Array) -> tuple[NDArray[np.int64], Array]:
        """Weights of the ring points, columns and weights [N, 4], for places [N, 2] outside the visible face."""
        growth, sectors, across = self.growth(places)
        level = np.clip(np.interp(growth, RING_GROWTH, np.arange(len(RING_GROWTH))), 0, len(RING_GROWTH) - 1 - 1e-4)
        ring, up = level.astype(int)[:, None], (level % 1)[:, None]
        columns = NUM_POINTS + np.concatenate([ring * SECTORS + sectors, (ring + 1) * SECTORS + sectors], 1)
        return columns, np.concatenate([across * (1 - up), across * up], 1).astype(np.float32)
