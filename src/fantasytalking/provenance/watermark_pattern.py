"""The pattern of the invisible watermark: a tile of cells that repeats over the picture, a third of them known, the rest for the bits.

A cell is the picture's side, the root of its area, over `CELLS_A_SIDE`: 2.8 pixels at 448 x 448. So the pattern grows with the picture,
and a smaller copy of a video holds the same one. The message is the identifier and its checksum: 32 + 16 bits, each in 50 cells of a tile.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "CELLS_A_SIDE",
    "MESSAGE_BITS",
    "TILE",
    "Layout",
    "is_message",
    "layout",
    "message_of",
    "number_of",
    "pattern_of",
]

TILE = 64
"""Cells along a side of the tile."""
CELLS_A_SIDE = 160
"""Cells along the side of a square picture."""
_SYNC_CELLS = 1696
_IDENTIFIER_BITS, _CHECK_BITS = 32, 16
MESSAGE_BITS = _IDENTIFIER_BITS + _CHECK_BITS
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
    owner[order[_SYNC_CELLS:]] = np.arange(TILE * TILE - _SYNC_CELLS) % MESSAGE_BITS
    return Layout(owner, np.where(random.randint(0, 2, TILE * TILE) > 0, 1, -1).astype(np.float32))


def message_of(identifier: int) -> npt.NDArray[np.bool_]:
    """The bits [MESSAGE_BITS] of an identifier with its checksum."""
    content = identifier.to_bytes(_IDENTIFIER_BITS // 8, "big")
    check = (zlib.crc32(content) & (1 << _CHECK_BITS) - 1).to_bytes(_CHECK_BITS // 8, "big")
    return np.unpackbits(np.frombuffer(content + check, np.uint8)).astype(bool)


def number_of(bits: npt.NDArray[np.bool_]) -> int:
    """The identifier of a message."""
    return int.from_bytes(np.packbits(bits[:_IDENTIFIER_BITS]).tobytes(), "big")


def is_message(bits: npt.NDArray[np.bool_]) -> bool:
    """Whether the checksum of a message is that of its identifier."""
    return bool(np.array_equal(message_of(number_of(bits)), bits))


def pattern_of(identifier: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The pattern of an identifier over a picture of a shape (H, W), about -1..1."""
    cells, (height, width) = layout(), shape
    signs = np.where(message_of(identifier), 1, -1)
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
