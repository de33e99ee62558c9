"""Displacement of every pixel of a portrait as a linear function of the displacements of its mesh points, worked out once per portrait.

Inside the face the weights are barycentric in the triangles that the photo shows. Triangles that face away, or nearly so, carry no
motion: what lies beyond the visible outline continues smoothly, near it (hair, ears) with the head, and not at all far from it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.openings import OPENINGS, REACH, Opening, PlacedOpening
from fantasytalking.autoencoder.sparse_rows import Rows, barycentric, mixed, shifted, smoothed
from fantasytalking.autoencoder.surroundings import RING_GROWTH, SECTORS, Surroundings
from fantasytalking.perception.mesh_points import (
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    NUM_POINTS,
    NUM_SKIN_TRIANGLES,
    RIGHT_EYE_OUTER,
    TRIANGLES,
)

Array = NDArray[np.float32]

FACING = 0.2  # cosine between a triangle's normal and the line of sight, from which on it counts as visible
STEEP = 0.7  # cosine below which motion is smoothed, as it changes fast across the picture where skin is seen at a small angle
SMOOTHING = 0.1  # standard deviation of that smoothing in eye distances
RIM, RIM_PIXELS = 0.015, 0.75  # how far lips and lids go beyond where they meet: widths of the opening, and pixels
MAX_RASTER = 256  # longest side of the raster of displacements
RASTER_EYES = 56.0  # distance between the outer corners of the eyes on it, at most
SEAM = 0.1  # least width of the band, in eye distances, over which the motion of the person fades into the still background
BORDER = 0.35  # width of the band, in eye distances, over which motion towards or away from the photo's border fades
_OF_LIPS = np.isin(TRIANGLES, [*LIPS_OUTER, *LIPS_INNER]).any(1)


def smoothstep(x: NDArray[np.floating]) -> Array:
    """Rise from 0 to 1 between x = 0 and x = 1 without a corner."""
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), np.float32)


def eye_distance(mesh: Array) -> float:
    """Distance between the outer corners of the eyes in pixels, for a mesh [468, 2 or 3]; at least 1."""
    return max(1.0, float(np.linalg.norm(mesh[RIGHT_EYE_OUTER, :2] - mesh[LEFT_EYE_OUTER, :2])))


def facing(mesh: Array) -> Array:
    """Cosine between normal and line of sight of every triangle of a mesh [468, 3] in pixels, [898]; below 0 it faces away."""
    a, b, c = (mesh[TRIANGLES[:, i]].astype(np.float64) for i in range(3))
    normal = -np.cross(b - a, c - a)  # z points away from the camera
    return np.asarray(normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-9), np.float32)


def visible_triangles(mesh: Array) -> NDArray[np.bool_]:
    """Which of `TRIANGLES` a photo shows from the front, [898], for its mesh [468, 3] in pixels."""
    # Lips curl inwards at their edges, which are seen all the same.
    return np.asarray(facing(mesh) > np.where(_OF_LIPS, 0.0, FACING))


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


class FaceField:
    """Forward displacement of a portrait's pixels, for any moved mesh.

    Args:
        mesh: The portrait's mesh [468, 3] in pixels.
        height: Height of the portrait in pixels.
        width: Width of the portrait in pixels.
        person: [height, width], 0 (background) to 1 (person); None where it is unknown.
    """

    parted: ClassVar[tuple[Opening, ...]] = OPENINGS  # which openings are taken apart

    def __init__(self, mesh: Array, height: int, width: int, person: Array | None = None) -> None:
        self.mesh = mesh.astype(np.float32)
        self.size = (height, width)
        self._person, self._travel = person, 0.0
        self.eyes = eye_distance(mesh)
        visible = visible_triangles(self.mesh)
        # A mesh seen from behind or squashed flat: better all of it than nothing.
        self.visible = visible if visible.sum() >= 200 else np.ones(len(TRIANGLES), bool)
        points = self.mesh[:, :2]
        low = points.min(0)
        scale = 200 / max(float(np.ptp(points, axis=0).max()), 1e-3)
        canvas = np.asarray((points - low) * scale + 2, np.float32)
        side = np.ceil(canvas.max(0)).astype(int) + 3
        labels = self._labels(canvas, int(side[1]), int(side[0]))
        self.surroundings = Surroundings(self.mesh, labels, canvas, self.visible)
        outer = self.surroundings.rings[-1]
        low = np.floor(np.clip(outer.min(0), 0, (width - 1, height - 1))).astype(int)
        high = np.ceil(np.clip(outer.max(0), 1, (width, height))).astype(int)
        x0, y0 = int(low[0]), int(low[1])
        self.raster = Raster((x0, y0, max(int(high[0]), x0 + 1), max(int(high[1]), y0 + 1)), self.eyes)
        self.openings = [o for o in (PlacedOpening(opening, self.mesh) for opening in self.parted) if self._is_seen(o)]
        self._fill()

    def allow_for(self, travel: float) -> None:
        """Make the seam towards the background wide enough for a head that is displaced by at most `travel` pixels; without it, none is."""
        self._travel = travel
        vars(self).pop("keep", None)

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

    def _fill(self) -> None:
        raster = self.raster
        columns = NUM_POINTS + len(RING_GROWTH) * SECTORS
        places = raster.places()
        labels = self._labels(raster.to_raster(self.mesh[:, :2]), raster.height, raster.width)
        self.labels = labels
        rows = Rows(columns)
        # Holes in what is visible, such as the dark side of a nose, take what is nearest.
        spots = places.reshape(-1, 2)
        _, nearest = cv2.distanceTransformWithLabels(
            (labels < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        order = np.zeros(int(nearest.max()) + 1, np.int64)
        order[nearest[labels >= 0]] = np.flatnonzero(labels >= 0)
        source = order[nearest.ravel()]
        flat = labels.ravel()
        is_face = (flat >= 0) | ((self.surroundings.growth(spots)[0] < 1) & (labels >= 0).any())
        inside, outside = np.flatnonzero(is_face), np.flatnonzero(~is_face)
        triangles = TRIANGLES[flat[source[inside]]]
        rows.add(inside, triangles, barycentric(spots[source[inside]], self.mesh[triangles, :2]))
        rows.add(outside, *self.surroundings.weights(spots[outside]))
        whole = rows.matrix(len(flat))
        spacing = max(1, round(0.5 * SMOOTHING * self.eyes * float(raster.scale.mean())))
        steep = self._steep(labels, spacing)
        self.sheets = tuple(smoothed(self._sheet(whole, spots, upper), steep, spacing) for upper in (True, False))
        self.lower_rows = np.flatnonzero(np.diff((abs(self.sheets[0] - self.sheets[1])).tocsr().indptr))
        self.lower = self.sheets[1][self.lower_rows]

    def _sheet(self, whole: Any, places: Array, is_upper: bool) -> Any:
        """Weights of one sheet of all openings: `whole` on its own side, continued smoothly past its edge."""
        result, step = whole, 1 / float(self.raster.scale.mean())
        for placed in self.openings:
            uv = placed.local(places)
            edge = placed.upper if is_upper else placed.lower
            beyond = (uv[:, 1] - edge.at(uv[:, 0])) * (1 if is_upper else -1)
            depth = placed.depths[1 if is_upper else 0]
            aside = 1 - smoothstep((np.abs(uv[:, 0]) / placed.half_width - 1) / (REACH - 1.05))
            # The lower lid's motion must outlast the upper lid above it, which comes down over it.
            start = 0.35 if placed.opening.is_eye and not is_upper else 0.1
            near = np.where(beyond > 0, aside * (1 - smoothstep((beyond / depth - start) / (0.95 - start))), 0)
            far = placed.above if is_upper else placed.below
            if far is None:
                result = mixed(result, near.astype(np.float32), [(edge, np.ones(len(uv), np.float32))], uv[:, 0])
                continue
            # What the edge does beyond the far side of lid or lip is spread evenly over the skin up to there and further, whichever of
            # its points a motion takes along; and a little past the edge, so that it lies at no kink, which the raster would round off.
            thickness = np.maximum((edge.at(uv[:, 0]) - far.at(uv[:, 0])) * (1 if is_upper else -1), 1e-3)
            spread = thickness + placed.reaches[0 if is_upper else 1]
            share = np.clip(1 + np.minimum(beyond, 2 * step) / spread, 0, 1.35).astype(np.float32)
            part = np.where(beyond > 0, near, aside).astype(np.float32)
            result = mixed(
                result,
                np.where(beyond > -thickness, part, 0).astype(np.float32),
                [(far, np.ones_like(share))],
                uv[:, 0],
            )
            result = shifted(result, part * share, edge, far, uv[:, 0])
        return result

    def _steep(self, labels: NDArray[np.int32], spacing: int) -> Array:
        """Share of smoothing [h, w]: all where the skin is seen at a small angle, whose motion changes too fast from place to place."""
        cosine = np.append(facing(self.mesh), 0.0)  # the last for places without a triangle
        steep = np.where((labels < 0) | np.isin(labels, np.flatnonzero(_OF_LIPS)), 0, cosine[labels] < STEEP)
        seen = (labels >= 0).astype(np.uint8)
        edge = cv2.dilate(seen, np.ones((3, 3), np.uint8)) - cv2.erode(seen, np.ones((3, 3), np.uint8))
        marked = np.maximum(steep.astype(np.uint8), edge)
        side = 2 * spacing + 1
        wide = cv2.dilate(marked, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))).astype(np.float32)
        share = cv2.GaussianBlur(wide, (0, 0), max(0.8, 0.7 * spacing))
        edges = np.zeros(labels.shape, np.uint8)  # which must move exactly
        for placed in self.openings:
            outline = [*placed.opening.upper, *placed.opening.lower[::-1]]
            places = np.round(self.raster.to_raster(self.mesh[outline, :2]) * 16).astype(np.int32)
            cv2.fillPoly(edges, [places], 1, cv2.LINE_8, 4)
        away = cv2.distanceTransform(1 - edges, cv2.DIST_L2, 5) / (self.eyes * float(self.raster.scale.mean()))
        return np.asarray(share * smoothstep((away - 0.01) / 0.05), np.float32)

    @cached_property
    def keep(self) -> Array:
        """Share of its motion in x and y that each place keeps [2, h, w]: none beyond the seam or across the photo's border."""
        (height, width), places, labels, person = self.size, self.raster.places(), self.labels, self._person
        growth = self.surroundings.growth(places.reshape(-1, 2))[0].reshape(labels.shape)
        kept = np.repeat(smoothstep((RING_GROWTH[-1] - growth) / 0.2)[None], 2, 0)
        if person is not None:
            x0, y0, x1, y1 = self.raster.box
            small = cv2.resize(
                person[y0:y1, x0:x1].astype(np.float32), labels.shape[::-1], interpolation=cv2.INTER_AREA
            )
            away = cv2.distanceTransform(((small < 0.3) & (labels < 0)).astype(np.uint8), cv2.DIST_L2, 5)
            away = cv2.GaussianBlur(away, (0, 0), 1.0) / float(self.raster.scale.mean())
            band = max(SEAM * self.eyes, 2.0 * self._travel)
            kept *= 1 - smoothstep((away - 0.02 * self.eyes) / band)
        band = BORDER * self.eyes
        for axis, last in ((0, width - 1), (1, height - 1)):
            at = places[..., axis]
            kept[axis] *= smoothstep(np.minimum(at, last - at) / band + 1e-3)
        return kept

    def shown(self, moved: Array) -> Array:
        """Meshes [F, 468, 3] where the picture shows them: fading motion at the photo's border takes part of theirs away."""
        at = np.rint(self.raster.to_raster(self.mesh[:, :2])).astype(int)
        x, y = np.clip(at, 0, (self.raster.width - 1, self.raster.height - 1)).T
        result = moved.copy()
        result[..., :2] = self.mesh[:, :2] + self.keep[:, y, x].T * (moved[..., :2] - self.mesh[:, :2])
        return result

    def _pressed(self, moved: Array) -> Array:
        """Meshes whose lips and lids go a little beyond where they meet, for the sheets, not for the line between them.

        The mesh finds the edge of a lip to within a few pixels; without this a rim of teeth would close along with it.
        """
        pressed = moved.astype(np.float32)
        for placed in self.openings:
            upper, lower = (list(edge[1:-1]) for edge in (placed.opening.upper, placed.opening.lower))
            gap, now = (m[..., lower, :2] - m[..., upper, :2] for m in (self.mesh, moved))
            before = np.maximum(np.linalg.norm(gap, axis=-1), 1e-3)
            closed = np.clip(1 - np.linalg.norm(now, axis=-1) / before, 0, 1)
            beyond = np.minimum(RIM * 2 * placed.half_width + RIM_PIXELS, 0.5 * before)
            push = (closed * beyond / before)[..., None] * gap
            pressed[:, upper, :2] += push
            pressed[:, lower, :2] -= push
        return pressed

    def shifts(self, moved: Array) -> Array:
        """Displacements of mesh and ring points, the columns of `sheets`, for meshes [F, 468, 2 or 3]: [columns, F, 2]."""
        mesh = self._pressed(moved)[:, :, :2] - self.mesh[:, :2]
        rings = np.stack(
            [(self.surroundings.ring_points(points) - self.surroundings.rings).reshape(-1, 2) for points in moved]
        )
        return np.ascontiguousarray(np.concatenate([mesh, rings], 1).swapaxes(0, 1), np.float32)

    def __call__(self, moved: Array) -> Array:
        """Displacements of both sheets for moved meshes.

        Args:
            moved: [F, 468, 2 or 3] in pixels.

        Returns:
            [F, 2, 2, h, w]: x and y of upper and lower sheet on the raster, in pixels.
        """
        stacked = self.shifts(moved).reshape(-1, 2 * len(moved))
        height, width = self.labels.shape
        # OpenCV transposes such an array in a seventh of NumPy's time
        upper = cv2.transpose(self.sheets[0] @ stacked).reshape(len(moved), 2, height, width)
        fields = np.empty((len(moved), 2, 2, height, width), np.float32)
        for planes, field in zip(upper, fields, strict=True):
            self._settle(planes, field[0])
        if not len(self.lower_rows):
            fields[:, 1] = fields[:, 0]
            return fields
        lower = upper.reshape(-1, height * width)
        lower[:, self.lower_rows] = (self.lower @ stacked).T
        for planes, field in zip(upper, fields, strict=True):
            self._settle(planes, field[1])
        return fields

    def _settle(self, planes: Array, result: Array) -> None:
        """Smooth planes of a displacement [2, h, w] a little, and let every place keep its share."""
        for plane, keep, out in zip(planes, self.keep, result, strict=True):
            # takes the kinks between triangles away, which Newton's method could go around in circles at
            np.multiply(cv2.GaussianBlur(plane, (3, 3), 0, borderType=cv2.BORDER_REPLICATE), keep, out=out)
