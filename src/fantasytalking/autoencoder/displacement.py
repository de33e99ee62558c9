"""Displacement of every pixel of a portrait as a linear function of the displacements of its mesh points, worked out once per portrait.

Inside the face the weights are barycentric in the triangles that the photo shows. Triangles that face away, or nearly so, carry no
motion: what lies beyond the visible outline continues smoothly, near it (hair, ears) with the head, and not at all far from it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fantasytalking.autoencoder.openings import OPENINGS, REACH, Edge, PlacedOpening
from fantasytalking.autoencoder.rigid import similarity_2d
from fantasytalking.perception.mesh_points import (
    FACE_OVAL,
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    NUM_POINTS,
    NUM_SKIN_TRIANGLES,
    RIGHT_EYE_OUTER,
    TRIANGLES,
)

Array = NDArray[np.float32]

# Rings are the visible outline grown about its centre. Head: share of the head's rigid motion that the ring takes; own: share of what
# the outline does beyond that (jaw opening, turning). The last ring stands still.
RING_GROWTH = (1.0, 1.12, 1.3, 1.6, 2.1, 3.0)
RING_HEAD = (1.0, 1.0, 1.0, 0.85, 0.4, 0.0)
RING_OWN = (1.0, 0.6, 0.25, 0.0, 0.0, 0.0)
# The same share below the chin: a neck bends, shoulders stay.
RING_HEAD_BELOW = (1.0, 1.0, 0.9, 0.55, 0.15, 0.0)
SECTORS = 72  # points of the outline and of each ring
FACING = 0.2  # cosine between a triangle's normal and the line of sight, from which on it counts as visible
MAX_RASTER = 256  # longest side of the raster of displacements
RASTER_EYES = 48.0  # distance between the outer corners of the eyes on it, at most
SEAM = 0.1  # least width of the band, in eye distances, over which the motion of the person fades into the still background
BORDER = 0.35  # width of the band, in eye distances, over which motion towards or away from the photo's border fades
_OVAL = np.asarray(FACE_OVAL)
_OF_LIPS = np.isin(TRIANGLES, [*LIPS_OUTER, *LIPS_INNER]).any(1)
_UPPER_OVAL = np.concatenate([_OVAL[:9], _OVAL[28:]])  # ear to ear over the forehead: moves with the skull only


def smoothstep(x: Array) -> Array:
    """Rise from 0 to 1 between x = 0 and x = 1 without a corner."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def eye_distance(mesh: Array) -> float:
    """Distance between the outer corners of the eyes in pixels, for a mesh [468, 2 or 3]; at least 1."""
    return max(1.0, float(np.linalg.norm(mesh[RIGHT_EYE_OUTER, :2] - mesh[LEFT_EYE_OUTER, :2])))


def visible_triangles(mesh: Array) -> NDArray[np.bool_]:
    """Which of `TRIANGLES` a photo shows from the front, [898], for its mesh [468, 3] in pixels."""
    a, b, c = (mesh[TRIANGLES[:, i]].astype(np.float64) for i in range(3))
    normal = -np.cross(b - a, c - a)  # z points away from the camera
    cosine = normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
    # Lips curl inwards at their edges, which are seen all the same.
    return np.asarray(cosine > np.where(_OF_LIPS, 0.0, FACING))


class Raster:
    """Grid of places in the portrait on which displacements are worked out.

    Args:
        box: x0, y0, x1, y1 in pixels.
        eyes: Distance between the outer corners of the eyes in pixels.
    """

    def __init__(self, box: tuple[int, int, int, int], eyes: float) -> None:
        self.box = box
        x0, y0, x1, y1 = box
        scale = min(1.0, MAX_RASTER / max(x1 - x0, y1 - y0), RASTER_EYES / eyes)
        self.width, self.height = max(2, round((x1 - x0) * scale)), max(2, round((y1 - y0) * scale))
        # per axis and after rounding: the same factor for both would be off by a third of a pixel at the far end
        self.scale = np.array([self.width / (x1 - x0), self.height / (y1 - y0)], np.float32)

    def to_raster(self, points: Array) -> Array:
        """Pixels [..., 2] -> raster coordinates."""
        return np.asarray((points - self.box[:2] + 0.5) * self.scale - 0.5, np.float32)

    def places(self) -> Array:
        """Places of the raster's points in the portrait, [height, width, 2] in pixels."""
        ys, xs = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        return np.asarray((np.stack([xs, ys], -1) + 0.5) / self.scale - 0.5 + self.box[:2], np.float32)


class _Rows:
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


def _barycentric(places: Array, corners: Array) -> Array:
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


class FaceField:
    """Forward displacement of a portrait's pixels, for any moved mesh.

    Args:
        mesh: The portrait's mesh [468, 3] in pixels.
        height: Height of the portrait in pixels.
        width: Width of the portrait in pixels.
        person: [height, width], 0 (background) to 1 (person); None where it is unknown.
        travel: Largest displacement of the head to allow for, in pixels: how wide the seam towards the background must be.
    """

    def __init__(self, mesh: Array, height: int, width: int, person: Array | None = None, travel: float = 0.0) -> None:
        self.mesh = mesh.astype(np.float32)
        self.size = (height, width)
        self.eyes = eye_distance(mesh)
        visible = visible_triangles(self.mesh)
        # A mesh seen from behind or squashed flat: better all of it than nothing.
        self.visible = visible if visible.sum() >= 200 else np.ones(len(TRIANGLES), bool)
        seen = np.zeros(NUM_POINTS, bool)
        seen[TRIANGLES[self.visible].ravel()] = True
        fixed = _UPPER_OVAL[seen[_UPPER_OVAL]]
        self.skull = fixed if len(fixed) >= 6 else _UPPER_OVAL
        self._find_outline()
        outer = self.rings[-1]
        low = np.floor(np.clip(outer.min(0), 0, (width - 1, height - 1))).astype(int)
        high = np.ceil(np.clip(outer.max(0), 1, (width, height))).astype(int)
        x0, y0 = int(low[0]), int(low[1])
        self.raster = Raster((x0, y0, max(int(high[0]), x0 + 1), max(int(high[1]), y0 + 1)), self.eyes)
        self.openings = [o for o in (PlacedOpening(opening, self.mesh) for opening in OPENINGS) if self._is_seen(o)]
        self._fill(person, travel)

    def _is_seen(self, placed: PlacedOpening) -> bool:
        """Whether an opening is seen from the front, wide enough to be taken apart."""
        edge = [*placed.opening.upper, *placed.opening.lower]
        around = np.isin(TRIANGLES[:NUM_SKIN_TRIANGLES], edge).any(1)
        right, left = self.mesh[placed.opening.upper[-1], :2], self.mesh[placed.opening.upper[0], :2]
        is_upright = (right - left) @ (self.mesh[LEFT_EYE_OUTER, :2] - self.mesh[RIGHT_EYE_OUTER, :2]) > 0
        is_wide = 2 * placed.half_width > 0.1 * self.eyes
        return bool(is_upright and is_wide and self.visible[:NUM_SKIN_TRIANGLES][around].mean() > 0.5)

    def _labels(self, points: Array, height: int, width: int) -> NDArray[np.int32]:
        """Number of the visible triangle at every place of a canvas [height, width], -1 where there is none."""
        canvas = np.full((height, width), -1, np.int32)
        corners = np.round(points[TRIANGLES] * 16).astype(np.int32)
        depth = self.mesh[TRIANGLES, 2].mean(1)
        for number in np.argsort(-depth):  # the nearest are painted last
            if self.visible[number]:
                cv2.fillConvexPoly(canvas, corners[number], int(number), cv2.LINE_8, 4)
        return canvas

    def _find_outline(self) -> None:
        """Find the outline of what is visible, as weights of mesh points, and the rings around it."""
        points = self.mesh[:, :2]
        low, high = points.min(0), points.max(0)
        scale = 200 / max(float((high - low).max()), 1e-3)
        side = np.ceil((high - low) * scale).astype(int) + 5
        canvas = (points - low) * scale + 2
        labels = self._labels(canvas, int(side[1]), int(side[0]))
        ys, xs = np.nonzero(labels >= 0)
        centre = np.array([xs.mean(), ys.mean()], np.float32)
        sector = np.round((np.arctan2(ys - centre[1], xs - centre[0]) / (2 * np.pi)) * SECTORS).astype(int) % SECTORS
        distance = np.hypot(ys - centre[1], xs - centre[0])
        farthest_last = np.argsort(distance)
        chosen = np.full(SECTORS, -1)
        chosen[sector[farthest_last]] = farthest_last
        for number in np.flatnonzero(chosen < 0):  # a sector that nothing falls into takes its neighbour's
            chosen[number] = chosen[number - 1]
        spots = np.stack([xs[chosen], ys[chosen]], 1).astype(np.float32)
        triangles = TRIANGLES[labels[ys[chosen], xs[chosen]]]
        self.outline_points, self.outline_weights = triangles, _barycentric(spots, canvas[triangles])
        self.centre = np.asarray((centre - 2) / scale + low, np.float32)
        outline = self._outline(points)
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

    def _fill(self, person: Array | None, travel: float) -> None:
        raster = self.raster
        columns = NUM_POINTS + len(RING_GROWTH) * SECTORS
        places = raster.places()
        labels = self._labels(raster.to_raster(self.mesh[:, :2]), raster.height, raster.width)
        self.labels = labels
        rows = _Rows(columns)
        # Holes in what is visible, such as the dark side of a nose, take what is nearest.
        spots = places.reshape(-1, 2)
        _, nearest = cv2.distanceTransformWithLabels(
            (labels < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        order = np.zeros(int(nearest.max()) + 1, np.int64)
        order[nearest[labels >= 0]] = np.flatnonzero(labels >= 0)
        source = order[nearest.ravel()]
        flat = labels.ravel()
        is_face = (flat >= 0) | ((self._growth(spots)[0] < 1) & (labels >= 0).any())
        inside, outside = np.flatnonzero(is_face), np.flatnonzero(~is_face)
        triangles = TRIANGLES[flat[source[inside]]]
        rows.add(inside, triangles, _barycentric(spots[source[inside]], self.mesh[triangles, :2]))
        rows.add(outside, *self._ring_weights(spots[outside]))
        whole = rows.matrix(len(flat))
        self.sheets = tuple(self._sheet(whole, spots, upper) for upper in (True, False))
        self.whole = whole
        self.keep = self._kept(places, labels, person, travel)

    def _growth(self, places: Array) -> tuple[Array, NDArray[np.int64], Array]:
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

    def _ring_weights(self, places: Array) -> tuple[NDArray[np.int64], Array]:
        """Weights of the ring points, columns and weights [N, 4], for places [N, 2] outside the visible face."""
        growth, sectors, across = self._growth(places)
        level = np.clip(np.interp(growth, RING_GROWTH, np.arange(len(RING_GROWTH))), 0, len(RING_GROWTH) - 1 - 1e-4)
        ring, up = level.astype(int)[:, None], (level % 1)[:, None]
        columns = NUM_POINTS + np.concatenate([ring * SECTORS + sectors, (ring + 1) * SECTORS + sectors], 1)
        return columns, np.concatenate([across * (1 - up), across * up], 1).astype(np.float32)

    def _sheet(self, whole: Any, places: Array, is_upper: bool) -> Any:
        """Weights of one sheet of all openings: `whole` on its own side, continued smoothly past its edge."""
        result = whole
        for placed in self.openings:
            uv = placed.local(places)
            edge = placed.upper if is_upper else placed.lower
            beyond = (uv[:, 1] - edge.at(uv[:, 0])) * (1 if is_upper else -1)
            depth = placed.depths[1 if is_upper else 0]
            aside = 1 - smoothstep((np.abs(uv[:, 0]) / placed.half_width - 1) / (REACH - 1.05))
            near = np.where(beyond > 0, aside * (1 - smoothstep((beyond / depth - 0.6) / 0.35)), 0)
            result = _mixed(result, near.astype(np.float32), [(edge, np.ones(len(uv), np.float32))], uv[:, 0])
            if is_upper and placed.above is not None:
                top = placed.above.at(uv[:, 0])
                share = np.clip((uv[:, 1] - top) / np.maximum(edge.at(uv[:, 0]) - top, 1e-3), 0, 1)
                lid = np.where((beyond <= 0) & (uv[:, 1] > top), aside, 0).astype(np.float32)
                parts = [(placed.above, 1 - share), (edge, share)]
                result = _mixed(result, lid, parts, uv[:, 0])
        return result

    def _kept(self, places: Array, labels: NDArray[np.int32], person: Array | None, travel: float) -> Array:
        """Share of its motion in x and y that each place keeps [h, w, 2]: none beyond the seam or across the photo's border."""
        height, width = self.size
        kept = np.ones((*labels.shape, 2), np.float32)
        if person is not None:
            x0, y0, x1, y1 = self.raster.box
            small = cv2.resize(
                person[y0:y1, x0:x1].astype(np.float32), labels.shape[::-1], interpolation=cv2.INTER_AREA
            )
            away = cv2.distanceTransform(((small < 0.3) & (labels < 0)).astype(np.uint8), cv2.DIST_L2, 5)
            away = cv2.GaussianBlur(away, (0, 0), 1.0) / float(self.raster.scale.mean())
            band = max(SEAM * self.eyes, 2.0 * travel)
            kept *= (1 - smoothstep((away - 0.02 * self.eyes) / band))[..., None]
        band = BORDER * self.eyes
        for axis, last in ((0, width - 1), (1, height - 1)):
            at = places[..., axis]
            kept[..., axis] *= smoothstep(np.minimum(at, last - at) / band + 1e-3)
        return kept

    def __call__(self, moved: Array) -> Array:
        """Displacements of both sheets for moved meshes.

        Args:
            moved: [F, 468, 2 or 3] in pixels.

        Returns:
            [F, 2, h, w, 2]: upper and lower sheet on the raster, in pixels.
        """
        shifts = [
            np.concatenate([p[:, :2] - self.mesh[:, :2], (self.ring_points(p) - self.rings).reshape(-1, 2)])
            for p in moved
        ]
        stacked = np.stack(shifts, 1).reshape(len(shifts[0]), -1).astype(np.float32)
        shape = (self.raster.height, self.raster.width, len(moved), 2)
        fields = [(sheet @ stacked).reshape(shape).transpose(2, 0, 1, 3) * self.keep for sheet in self.sheets]
        return np.stack(fields, 1)


def _mixed(rows: Any, share: Array, parts: list[tuple[Edge, Array]], u: Array) -> Any:
    """Replace a share of every row [N] by weighted points of edges at the places u."""
    chosen = np.flatnonzero(share > 0)
    added = _Rows(rows.shape[1])
    for edge, weight in parts:
        points, shares = edge.shares(u[chosen])
        added.add(chosen, points, shares * (weight * share)[chosen, None])
    return (sparse.diags_array(1 - share) @ rows + added.matrix(rows.shape[0])).tocsr().astype(np.float32)
