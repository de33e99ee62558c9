"""Meshes that the embedded model draws, without drawing them: what is measured on them costs a tenth of rendered frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.render import Renderer
from fantasytalking.perception.landmarks import mouth_opening


@contextmanager
def drawn_meshes(drawn_from: int) -> Iterator[list[NDArray[np.float32]]]:
    """Collects the meshes [F, 468, 3] that are drawn, in pixels; the frames before a number are black."""
    meshes: list[NDArray[np.float32]] = []
    original, given = Renderer.frames, 0

    def frames(
        self: Renderer, points: Any, begin: int = 0, end: int | None = None, aside: bool = False
    ) -> Iterator[Any]:
        nonlocal given
        last = len(points) if end is None else end
        meshes.append(np.array(points[begin:last], np.float32))
        black = min(max(drawn_from - given, 0), last - begin)
        given += last - begin
        yield from [np.zeros_like(self._image)] * black
        yield from original(self, points, begin + black, last, aside)

    Renderer.frames = frames  # type: ignore[method-assign]
    try:
        yield meshes
    finally:
        Renderer.frames = original  # type: ignore[method-assign]


def openings_in(meshes: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Mouth openings [F] of the meshes that were collected."""
    return np.asarray(mouth_opening(np.concatenate(meshes)), np.float64)
