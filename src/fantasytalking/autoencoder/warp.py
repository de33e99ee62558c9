"""Warp of a portrait by its face mesh: backward maps from triangles, with rings of points around the head that fade its motion out.

Everything visible in the photo is moved, never repainted, so the result is as sharp as the photo. The 468 points of the face
mesh move exactly; rings of points around the face oval follow the head rigidly near it (hair, ears) and not at all far from it.
Where the person's silhouette is known, what lies outside it before and after the motion stays still, however near the head it is.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.rigid import similarity_2d
from fantasytalking.perception.mesh_points import (
    FACE_OVAL,
    LEFT_EYE_OUTER,
    NUM_POINTS,
    RIGHT_EYE_OUTER,
    TRIANGLES,
)

Array = NDArray[np.float32]

# Rings are the face oval grown about its centre. Head: share of the head's rigid motion that the ring takes; own: share of what the
# oval does beyond that (jaw opening, turning). The last ring stands still.
RING_GROWTH = (1.12, 1.3, 1.6, 2.1, 3.0)
RING_HEAD = (1.0, 1.0, 0.85, 0.4, 0.0)
RING_OWN = (0.6, 0.25, 0.0, 0.0, 0.0)
# The same share below the chin: a neck bends, shoulders stay.
RING_HEAD_BELOW = (1.0, 0.9, 0.55, 0.15, 0.0)
SEAM = 0.1  # width of the band, in eye distances, over which the motion of the person fades into the still background
MAX_RASTER = 384  # longest side of the raster on which maps are computed; larger portraits get the map enlarged
_OVAL = np.asarray(FACE_OVAL)
_UPPER_OVAL = np.concatenate([_OVAL[:9], _OVAL[28:]])  # ear to ear over the forehead: moves with the skull only


def _ring_triangles() -> NDArray[np.int64]:
    """Triangles between the oval and the rings; ring points follow the 468 mesh points, 36 to a ring."""
    n = len(_OVAL)
    loops = [_OVAL] + [NUM_POINTS + n * k + np.arange(n) for k in range(len(RING_GROWTH))]
    quads = [(a, np.roll(a, -1), b, np.roll(b, -1)) for a, b in itertools.pairwise(loops)]
    return np.concatenate([np.stack(t, 1) for a, a1, b, b1 in quads for t in ((a, a1, b), (a1, b1, b))])


_RINGS = _ring_triangles()


def triangle_map(target: Array, source: Array, triangles: NDArray[np.int64], height: int, width: int) -> Array:
    """Backward map of a triangle mesh: for every pixel of the target raster the position in the source.

    Args:
        target: [N, 2] points in target pixels.
        source: [N, 2] the same points in source pixels.
        triangles: [T, 3] indices, painted in this order (later ones cover earlier ones).
        height: Rows of the raster.
        width: Columns of the raster.

    Returns:
        [height, width, 2] source x, y; NaN where no triangle lies.
    """
    corners = target[triangles]
    homogeneous = np.concatenate([corners, np.ones_like(corners[..., :1])], -1).astype(np.float64)
    flat = np.abs(np.linalg.det(homogeneous)) < 1e-3
    homogeneous[flat] = np.eye(3)
    affine = np.linalg.solve(homogeneous, source[triangles].astype(np.float64)).astype(np.float32)
    index = np.full((height, width), -1, np.int32)
    fixed = np.round(corners * 16).astype(np.int32)
    for number in np.flatnonzero(~flat):
        cv2.fillConvexPoly(index, fixed[number], int(number), cv2.LINE_8, 4)
    ys, xs = np.nonzero(index >= 0)
    chosen = affine[index[ys, xs]]
    result = np.full((height, width, 2), np.nan, np.float32)
    # The filled polygons include their border, and a sliver's affine map is wild just outside it. One pixel of room, though: to hold
    # border pixels of small triangles inside them would move a portrait that stays.
    room = np.ptp(source, axis=0) / np.maximum(np.ptp(target, axis=0), 1e-6)
    corners_of_source = source[triangles].astype(np.float32)
    low, high = corners_of_source.min(1)[index[ys, xs]] - room, corners_of_source.max(1)[index[ys, xs]] + room
    mapped = xs[:, None] * chosen[:, 0] + ys[:, None] * chosen[:, 1] + chosen[:, 2]
    result[ys, xs] = np.clip(mapped, low, high)
    return result


def _head_share(oval: Array) -> Array:
    """Share of the head's motion of every ring point [rings, 36], for the oval's points about its centre [36, 2]."""
    below = np.clip(oval[:, 1] / np.maximum(np.abs(oval[:, 1]).max(), 1e-6), 0, 1)[None] ** 2
    above, under = np.asarray(RING_HEAD)[:, None], np.asarray(RING_HEAD_BELOW)[:, None]
    return np.asarray(above + below * (under - above), np.float32)


class PortraitWarper:
    """Warp of one portrait.

    Args:
        image: [H, W, 3] uint8 RGB.
        mesh: [468, 3] the portrait's face mesh in pixels.
        person: [H, W], 0 (background) to 1 (person); None where it is unknown: the background near the head moves with it then.
    """

    def __init__(self, image: NDArray[np.uint8], mesh: Array, person: Array | None = None) -> None:
        self.image = image
        self.mesh = mesh.astype(np.float32)
        oval = self.mesh[_OVAL, :2]
        self.centre = oval.mean(0)
        self.rings = np.stack([self.centre + (oval - self.centre) * g for g in RING_GROWTH])
        height, width = image.shape[:2]
        outer = self.rings[-1]
        low = np.floor(np.clip(outer.min(0), 0, (width - 1, height - 1))).astype(int)
        high = np.ceil(np.clip(outer.max(0), 1, (width, height))).astype(int)
        self.box = (int(low[0]), int(low[1]), int(max(high[0], low[0] + 1)), int(max(high[1], low[1] + 1)))
        longest = max(self.box[2] - self.box[0], self.box[3] - self.box[1])
        self.raster_scale = min(1.0, MAX_RASTER / longest)
        self.head_share = _head_share(oval - self.centre)
        self.person: Array | None = None
        if person is not None:
            box = person[self.box[1] : self.box[3], self.box[0] : self.box[2]].astype(np.float32)
            self.person = np.asarray(cv2.resize(box, self._raster_size[::-1], interpolation=cv2.INTER_AREA), np.float32)

    @property
    def _raster_size(self) -> tuple[int, int]:
        x0, y0, x1, y1 = self.box
        return max(1, round((y1 - y0) * self.raster_scale)), max(1, round((x1 - x0) * self.raster_scale))

    def ring_points(self, points: Array) -> Array:
        """Positions of the rings [rings, 36, 2] when the mesh moves to `points` [468, 2 or 3]."""
        matrix, shift = similarity_2d(self.mesh[_UPPER_OVAL, :2], points[_UPPER_OVAL, :2])
        own = points[_OVAL, :2] - (self.mesh[_OVAL, :2] @ matrix.T + shift)
        moved = []
        for ring, head, share in zip(self.rings, self.head_share, RING_OWN, strict=True):
            moved.append(ring + head[:, None] * (ring @ matrix.T + shift - ring) + share * own)
        return np.stack(moved)

    def backward_map(self, points: Array) -> Array:
        """Backward map of the box `self.box`: for each pixel its place in the portrait, [h, w, 2] in pixels.

        Args:
            points: Mesh of the new frame, [468, 3] in pixels.
        """
        x0, y0, x1, y1 = self.box
        height, width = self._raster_size
        # per axis and after rounding: the same factor for both would be off by a third of a pixel at the far end
        scale = np.array([width / (x1 - x0), height / (y1 - y0)], np.float32)
        rings = self.ring_points(points)
        target = np.concatenate([points[:, :2], rings.reshape(-1, 2)])
        source = np.concatenate([self.mesh[:, :2], self.rings.reshape(-1, 2)])
        depth = points[TRIANGLES, 2].mean(1)
        order = np.concatenate([_RINGS[::-1], TRIANGLES[np.argsort(-depth)]])  # the nearest triangles are painted last
        shifted = ((target - (x0, y0) + 0.5) * scale - 0.5).astype(np.float32)
        raster = triangle_map(shifted, source, order, height, width)
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        still = (np.stack([xs, ys], -1) + 0.5) / scale - 0.5 + (x0, y0)
        shift = np.where(np.isnan(raster), 0, raster - still).astype(np.float32)
        if self.person is not None:
            shift = shift * self._moving(self.person, shift * scale)[..., None]
        if shift.shape[:2] != (y1 - y0, x1 - x0):  # the displacement and not the map: a resize repeats its border
            shift = cv2.resize(shift, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        ys, xs = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        result: Array = shift + np.stack([xs, ys], -1)
        return result

    def _moving(self, person: Array, shift: Array) -> Array:
        """Share of its motion that each pixel of the raster keeps, 0..1: all where the person is or was, none beyond a seam.

        Args:
            person: [h, w] silhouette on the raster.
            shift: [h, w, 2] backward displacement in raster pixels.
        """
        height, width = person.shape
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        after = cv2.remap(
            person, xs + shift[..., 0], ys + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        covered = (np.maximum(person, after) > 0.3).astype(np.float32)
        eyes = float(np.linalg.norm(self.mesh[RIGHT_EYE_OUTER, :2] - self.mesh[LEFT_EYE_OUTER, :2])) * self.raster_scale
        sigma = max(0.7, SEAM * eyes / 2)
        side = 2 * round(1.5 * sigma) + 1
        wide = cv2.dilate(covered, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
        return np.asarray(cv2.GaussianBlur(wide, (0, 0), sigma), np.float32)

    def __call__(self, points: Array) -> NDArray[np.uint8]:
        """Move the portrait so that its mesh lies at `points` [468, 3] (pixels): [H, W, 3] uint8."""
        x0, y0, x1, y1 = self.box
        mapping = self.backward_map(points)
        moved = cv2.remap(
            self.image, mapping[..., 0], mapping[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        result = self.image.copy()
        result[y0:y1, x0:x1] = moved
        return result
