"""The error-correcting code of the invisible watermark: 32 bits of an identifier in 128 bits, most of which may be doubtful.

A random linear code, as they are about as good as codes of this length can be, decoded by ordered statistics (Fossorier and Lin 1995):
the 32 independent bits that look most certain are taken as they are, and with one or two of them changed; of the code words that follow,
the one most like what was read is taken. A word that is not enough like it is none.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["CODE_BITS", "decode", "encode"]

IDENTIFIER_BITS = 32
CODE_BITS = 128
_LEAST_LIKENESS = 0.6
"""Correlation between what was read and the code word: of 3,000 readings of noise, none reached it."""
_SEED = 1995

Bits = npt.NDArray[np.uint8]


def encode(identifier: int) -> npt.NDArray[np.bool_]:
    """The code word [CODE_BITS] of an identifier of 32 bits."""
    bits = np.unpackbits(np.frombuffer(identifier.to_bytes(4, "big"), np.uint8))
    return np.asarray(bits @ _generator() % 2, bool)


def decode(soft: npt.NDArray[np.float64]) -> tuple[int | None, float]:
    """The identifier, or None where no code word is like what was read, and the likeness of the best one.

    Args:
        soft: [CODE_BITS], how much each bit looks set (positive) or not, in any unit.
    """
    order = np.argsort(-np.abs(soft))
    reduced, pivots = _eliminated(_generator()[:, order])
    read = soft[order]
    sure = (read[pivots] > 0).astype(np.uint8)
    words = (sure ^ _changes()) @ reduced % 2
    norm = np.linalg.norm(soft) * CODE_BITS**0.5 + 1e-12
    likeness = (2.0 * words - 1) @ read / norm
    best = int(likeness.argmax())
    word = np.empty(CODE_BITS, np.uint8)
    word[order] = words[best]
    found = float(likeness[best])
    return (_identifier(word) if found >= _LEAST_LIKENESS else None), found


@functools.cache
def _generator() -> Bits:
    # The identifier's own bits are the first ones of the word; RandomState draws the same numbers in every version of NumPy.
    random = np.random.RandomState(_SEED).randint(0, 2, (IDENTIFIER_BITS, CODE_BITS - IDENTIFIER_BITS))
    return np.concatenate([np.eye(IDENTIFIER_BITS, dtype=np.uint8), random.astype(np.uint8)], axis=1)


def _identifier(word: Bits) -> int:
    return int.from_bytes(np.packbits(word[:IDENTIFIER_BITS]).tobytes(), "big")


@functools.cache
def _changes() -> Bits:
    """All ways [n, IDENTIFIER_BITS] to change at most two bits."""
    ways = [way for count in range(3) for way in itertools.combinations(range(IDENTIFIER_BITS), count)]
    changes = np.zeros((len(ways), IDENTIFIER_BITS), np.uint8)
    for row, way in zip(changes, ways, strict=True):
        row[list(way)] = 1
    return changes


def _eliminated(matrix: Bits) -> tuple[Bits, list[int]]:
    """The matrix with a unit matrix in its first independent columns, and these."""
    rows, pivots = matrix.copy(), list[int]()
    for column in range(CODE_BITS):
        done = len(pivots)
        if done == IDENTIFIER_BITS:
            break
        below = np.flatnonzero(rows[done:, column])
        if not len(below):
            continue
        rows[[done, done + below[0]]] = rows[[done + below[0], done]]
        others = np.flatnonzero(rows[:, column])
        rows[others[others != done]] ^= rows[done]
        pivots.append(column)
    return rows, pivots
