"""The pattern of the invisible watermark: a tile of cells that repeats over the picture, half of them known, half for the bits.

A cell is the picture's side, the root of its area, over `CELLS_A_SIDE`: 3.5 pixels at 448 x 448. So the pattern grows with the picture,
and a smaller copy of a video holds the same one. Each bit of the code word of the identifier is in 16 cells of a tile.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fantasytalking.provenance.watermark_code import CODE_BITS, encode

__all__ = ["CELLS_A_SIDE", "TILE", "Layout", "layout", "pattern_of"]

TILE = 64
"""Cells along a side of the tile."""
CELLS_A_SIDE = 128
"""Cells along the side of a square picture."""
_KNOWN_CELLS = TILE * TILE // 2
# Draws which cell belongs to which bit, and the signs. Public, as all of this code: the mark is found by anybody.
_SEED = 20_26


@dataclass(frozen=True)
class Layout:
    """What the cells of a tile are for, [TILE * TILE] each.

    Attributes:
        owner: Number of the bit that a cell belongs to, or -1: its sign is known.
        sign: -1 or 1, what a cell holds for a bit that is set.
    """

    owner: npt.NDArray[np.int64]
    sign: npt.NDArray[np.float32]


@functools.cache
def layout() -> Layout:
    """The layout of all our watermarks."""
    # A generator whose numbers are the same in every version of NumPy.
    random = np.random.RandomState(_SEED)
    order = random.permutation(TILE * TILE)
    owner = np.full(TILE * TILE, -1)
    owner[order[_KNOWN_CELLS:]] = np.arange(TILE * TILE - _KNOWN_CELLS) % CODE_BITS
    return Layout(owner, np.where(random.randint(0, 2, TILE * TILE) > 0, 1, -1).astype(np.float32))


def pattern_of(identifier: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The pattern of an identifier over a picture of a shape (H, W), about -1..1."""
    cells, (height, width) = layout(), shape
    signs = np.where(encode(identifier), 1, -1)
    known = np.where(cells.owner < 0, 1, signs[np.maximum(cells.owner, 0)]).astype(np.float32)
    # Where the tiles begin depends on the identifier, so that two marks, one over the other, hardly ever cover each other.
    row, column = divmod(identifier * 2654435761 % 2**32 >> 20, TILE)
    tile = np.roll((known * cells.sign).reshape(TILE, TILE), (row, column), (0, 1))
    cell = (height * width) ** 0.5 / CELLS_A_SIDE
    repeats = [int(side / cell / TILE) + 2 for side in shape]
    # Middle of the first pixel and of the first cell lie half of each from the corner.
    offset = 0.5 / cell - 0.5
    matrix = np.array([[1 / cell, 0, offset], [0, 1 / cell, offset]], np.float32)
    spread = cv2.warpAffine(
        np.tile(tile, repeats),
        matrix,
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(spread, np.float32)
