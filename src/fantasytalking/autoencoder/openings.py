"""Openings of the face: the mouth and the two eyes, slits whose two sides move apart from each other.

An opening splits the face into an upper sheet (upper lip or upper lid, and what is above) and a lower sheet. Each sheet's motion is
continued past its own edge, so each is smooth, and what shows between the edges is a layer of its own: teeth, or the eyeball.

Letters: u runs along an opening from its left corner on the screen to its right one, v across it and downwards, both in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fantasytalking.perception.mesh_points import (
    CHIN,
    LEFT_EYE,
    LEFT_EYEBROW,
    LIPS_INNER,
    LIPS_OUTER,
    RIGHT_EYE,
    RIGHT_EYEBROW,
)

Array = NDArray[np.float32]
Points = tuple[int, ...]

REACH = 1.35  # half of the width, in half widths of the opening, within which the sheets may differ
NOSE_BASE = (2, 97, 326)  # where the nose meets the upper lip


@dataclass(frozen=True)
class Opening:
    """One opening, in numbers of mesh points.

    Attributes:
        upper: Edge of the upper sheet from left to right on the screen, corners included.
        lower: Edge of the lower sheet, with the same corners.
        above: Line, from left to right, from which on down to the upper edge the skin stretches evenly.
        below: The same below the lower edge; empty where the mesh tells how the skin stretches.
        rim: Width of the strip below the upper edge that moves with it, in widths of the opening: the lashes.
        is_eye: Whether it is an eye and not the mouth.
    """

    upper: Points
    lower: Points
    above: Points
    below: Points
    rim: float
    is_eye: bool


def _upper(outline: Points) -> Points:
    return outline[: len(outline) // 2 + 1]


def _lower(outline: Points) -> Points:
    return (outline[0], *outline[: len(outline) // 2 - 1 : -1])


def _eye(outline: Points, brow: Points) -> Opening:
    upper = _upper(outline)
    return Opening(upper, _lower(outline), brow[:4:-1], (), 0.05, True)


MOUTH = Opening(_upper(LIPS_INNER), _lower(LIPS_INNER), _upper(LIPS_OUTER), _lower(LIPS_OUTER), 0.0, False)
EYES = (_eye(RIGHT_EYE, RIGHT_EYEBROW), _eye(LEFT_EYE, LEFT_EYEBROW))
OPENINGS = (MOUTH, *EYES)


@dataclass(frozen=True)
class Edge:
    """A line of mesh points as a function v(u).

    Attributes:
        points: Numbers of the points, by growing u.
        u: Their places, strictly growing.
        v: Their heights.
    """

    points: NDArray[np.int64]
    u: Array
    v: Array

    def at(self, u: Array) -> Array:
        """Heights at places u; the end points' beyond the ends."""
        return np.asarray(np.interp(u, self.u, self.v), np.float32)

    def shares(self, u: Array) -> tuple[NDArray[np.int64], Array]:
        """The two mesh points [N, 2] between which each place lies, and their weights [N, 2]."""
        right = np.clip(np.searchsorted(self.u, u), 1, len(self.u) - 1)
        share = np.clip((u - self.u[right - 1]) / (self.u[right] - self.u[right - 1]), 0, 1)
        return np.stack([self.points[right - 1], self.points[right]], 1), np.stack([1 - share, share], 1)


class PlacedOpening:
    """An opening of one mesh.

    Args:
        opening: The opening.
        mesh: Mesh [468, 2 or 3] in pixels.
    """

    def __init__(self, opening: Opening, mesh: Array) -> None:
        self.opening = opening
        left, right = mesh[opening.upper[0], :2], mesh[opening.upper[-1], :2]
        self.origin = (left + right) / 2
        self.half_width = max(float(np.hypot(*(right - left))) / 2, 1e-3)
        along = (right - left) / (2 * self.half_width)
        self.axes = np.array([along, [-along[1], along[0]]], np.float32)
        self.mesh = mesh[:, :2]
        self.upper, self.lower = self._edge(opening.upper), self._edge(opening.lower)

    def local(self, points: Array) -> Array:
        """Places [..., 2] in pixels -> u, v."""
        return np.asarray((points - self.origin) @ self.axes.T, np.float32)

    def image(self, places: Array) -> Array:
        """Inverse of `local`."""
        return np.asarray(places @ self.axes + self.origin, np.float32)

    def _edge(self, points: Points) -> Edge:
        places = self.local(self.mesh[list(points)])
        # In a head turned far a line may run back on itself.
        u = np.maximum.accumulate(places[:, 0])
        u = u + 1e-4 * self.half_width * np.arange(len(points), dtype=np.float32)
        return Edge(np.asarray(points, np.int64), u.astype(np.float32), places[:, 1])

    def moved(self, points: Array) -> tuple[Edge, Edge]:
        """Upper and lower edge where the mesh lies at points [468, 2], in this opening's own u and v."""
        edges = []
        for edge in (self.upper, self.lower):
            places = self.local(points[edge.points])
            u = np.maximum.accumulate(places[:, 0]) + 1e-4 * self.half_width * np.arange(len(places), dtype=np.float32)
            edges.append(Edge(edge.points, u.astype(np.float32), places[:, 1]))
        return edges[0], edges[1]

    @cached_property
    def above(self) -> Edge:
        """Line above the upper edge from which on the skin stretches."""
        return self._edge(self.opening.above)

    @cached_property
    def below(self) -> Edge | None:
        """Line below the lower edge up to which the skin stretches."""
        return self._edge(self.opening.below) if self.opening.below else None

    @cached_property
    def depths(self) -> tuple[float, float]:
        """Distances above and below the edges within which the sheets are continued, in pixels."""
        if self.opening.is_eye:
            over = float(np.median(self.upper.v[1:-1]) - np.median(self.above.v))
            return self.gap + 1.2 * max(over, 0.5 * self.half_width), self.gap + 1.8 * self.half_width
        over = -float(self.local(self.mesh[list(NOSE_BASE)])[:, 1].mean())
        under = float(self.local(self.mesh[CHIN])[1])
        return max(0.9 * over, 0.3 * self.half_width), max(0.8 * under, 0.8 * self.half_width)

    @cached_property
    def reaches(self) -> tuple[float, float]:
        """How far above and below lid or lip the skin gives way to its edge, in pixels; a lid has all of it below the brow."""
        if self.opening.is_eye:
            return 0.0, 0.0
        assert self.below is not None
        nose, chin = float(self.local(self.mesh[list(NOSE_BASE)])[:, 1].mean()), float(self.local(self.mesh[CHIN])[1])
        over, under = float(np.median(self.above.v)) - nose, chin - float(np.median(self.below.v))
        return max(0.85 * over, 0.0), max(0.5 * under, 0.0)

    @property
    def gap(self) -> float:
        """Largest distance between the edges in pixels."""
        u = self.upper.u[1:-1]
        return float(np.max(self.lower.at(u) - self.upper.at(u)))
