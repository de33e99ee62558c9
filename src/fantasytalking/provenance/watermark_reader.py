"""Looking for the invisible watermark in frames that may have been encoded, scaled or cropped.

The frames are freed of what they show as far as possible and averaged. The known cells of the pattern are searched for at every place and
at scales around the picture's own; where they agree best, the bits are read. How well they agree is measured in standard deviations of all
the places that were tried, which are almost normally distributed, and the certainty counts how many were.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fantasytalking.provenance.watermark_code import CODE_BITS, decode
from fantasytalking.provenance.watermark_pattern import (
    CELLS_A_SIDE,
    TILE,
    layout,
)

__all__ = ["FALSE_ALARMS", "Reading", "read_watermark"]

FALSE_ALARMS = 1e-3
"""Share of unmarked videos in which the watermark may be found by chance."""
_PER_CELL = 2
_SIDE = TILE * _PER_CELL
_DETAIL = 2.0
"""Pixels of the plane that is searched; what is coarser belongs to the picture."""
_SCALES = tuple(np.exp(np.arange(math.log(0.55), math.log(1.4), 0.012)))
_PLAIN = 9.0
"""Standard deviations from which the picture's own scale needs no others beside it."""
_TAIL = 2
"""By how much chance is taken to be larger than a normal distribution says: with it, of 2,000 windows of 405 unmarked clips 7.7, 0.95 and
0.05 % have a chance of at most 0.1, 0.01 and 0.001 (`benchmarks/watermark.py --alarms`)."""
_FINER = (0.994, 0.997, 1.003, 1.006)
_MOST_MARKS = 3


@dataclass(frozen=True)
class Reading:
    """What was found in some frames.

    Attributes:
        found: Whether the watermark is there.
        identifiers: Those that can be read, the clearest first: none where the mark is too damaged, several where a marked video was
            dubbed or generated from another marked one.
        chance: Probability that frames without a watermark look like this.
        deviations: How far the pattern stands out, in standard deviations.
        scale: Size of the pattern over the size that it has in a picture like this: 1 unless the video was cropped.
        frames: Number of frames that were looked at.
        soft_bits: How much each bit of the message looks set (positive) or not.
    """

    found: bool
    identifiers: tuple[int, ...]
    chance: float
    deviations: float
    scale: float
    frames: int
    soft_bits: tuple[float, ...] = ()


def read_watermark(frames: Iterable[npt.NDArray[np.uint8]]) -> Reading:
    """Look for the watermark in frames uint8 RGB [H, W, 3], of one size."""
    whole: npt.NDArray[np.float32] | None = None
    count = 0
    for frame in frames:
        one = _without_picture(frame)
        whole = one if whole is None else whole + one
        count += 1
    if whole is None:
        return Reading(False, (), 1.0, 0.0, 1.0, 0)
    best = _matched(whole, 1.0)
    tried = 1
    if best.deviations < _PLAIN:
        best = max(best, *(_matched(whole, scale) for scale in _SCALES), key=lambda match: match.deviations)
        tried += len(_SCALES)
    near = [_matched(whole, best.scale * finer) for finer in _FINER]
    best, tried = max(best, *near, key=lambda match: match.deviations), tried + len(near)
    deviations, chance, found = best.deviations, _chance(best.deviations, tried), []
    soft = tuple(_soft_bits(best.tile_there).tolist())
    for _ in range(_MOST_MARKS):
        if _chance(best.deviations, tried) > FALSE_ALARMS:
            break
        found.append(decode(_soft_bits(best.tile_there))[0])
        best = best.without_place()
    known = tuple(dict.fromkeys(one for one in found if one is not None))
    return Reading(chance <= FALSE_ALARMS, known, chance, deviations, 1 / best.scale, count, soft)


def _without_picture(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The fine detail of a frame, as strong in one place as in the other, at `_PER_CELL` pixels a cell."""
    light = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = light.shape
    scale = CELLS_A_SIDE * _PER_CELL / (height * width) ** 0.5
    size = max(1, round(width * scale)), max(1, round(height * scale))
    plane = cv2.resize(light, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    plane = plane - cv2.GaussianBlur(plane, (0, 0), _DETAIL)
    strength = np.sqrt(cv2.GaussianBlur(plane * plane, (0, 0), 1.5 * _DETAIL))
    return np.asarray(np.clip(plane / (strength + 0.5), -1.5, 1.5), np.float32)


@functools.cache
def _known() -> npt.NDArray[np.complex64]:
    """Spectrum of the known cells, as they look in the plane that is searched."""
    cells = layout()
    tile = np.where(cells.owner < 0, cells.sign, 0).astype(np.float32).reshape(TILE, TILE)
    around = cv2.resize(np.tile(tile, (3, 3)), None, fx=_PER_CELL, fy=_PER_CELL, interpolation=cv2.INTER_CUBIC)
    around = around - cv2.GaussianBlur(around, (0, 0), _DETAIL)
    return np.conj(np.fft.rfft2(around[_SIDE : 2 * _SIDE, _SIDE : 2 * _SIDE]))


@dataclass(frozen=True)
class _Match:
    """How well the known cells agree with a plane at a scale.

    Attributes:
        scale: The scale.
        tile: The plane, folded to a tile: the sum of all its repeats.
        agreement: At each place of the tile, in standard deviations.
    """

    scale: float
    tile: npt.NDArray[np.float32]
    agreement: npt.NDArray[np.float64]

    @property
    def deviations(self) -> float:
        """How far the best place stands out."""
        return float(self.agreement.max())

    @property
    def tile_there(self) -> npt.NDArray[np.float32]:
        """The tile as it lies at the best place."""
        row, column = divmod(int(self.agreement.argmax()), _SIDE)
        return np.roll(self.tile, (-row, -column), (0, 1))

    def without_place(self) -> _Match:
        """The same, without the best place and what is next to it."""
        row, column = divmod(int(self.agreement.argmax()), _SIDE)
        left = self.agreement.copy()
        around = range(-2 * _PER_CELL, 2 * _PER_CELL + 1)
        left[np.ix_([(row + one) % _SIDE for one in around], [(column + one) % _SIDE for one in around])] = 0
        return _Match(self.scale, self.tile, left)


def _chance(deviations: float, scales: int) -> float:
    """Probability that the best of all places at some scales stands out so far by chance."""
    return min(1.0, _TAIL * scales * _SIDE**2 * 0.5 * math.erfc(deviations / math.sqrt(2)))


def _matched(plane: npt.NDArray[np.float32], scale: float) -> _Match:
    if scale != 1:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        plane = np.asarray(cv2.resize(plane, None, fx=scale, fy=scale, interpolation=way), np.float32)
    rows, columns = (-(-side // _SIDE) for side in plane.shape)
    padded = np.zeros((rows * _SIDE, columns * _SIDE), np.float32)
    padded[: plane.shape[0], : plane.shape[1]] = plane
    tile = padded.reshape(rows, _SIDE, columns, _SIDE).sum((0, 2))
    agreement = np.fft.irfft2(np.fft.rfft2(tile) * _known(), tile.shape)
    return _Match(scale, tile, (agreement - agreement.mean()) / (agreement.std() + 1e-9))


def _soft_bits(tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How much each bit [CODE_BITS] looks set (positive) or not, over their spread."""
    cells = layout()
    values = cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_AREA).reshape(-1) * cells.sign
    data = cells.owner >= 0
    sums = np.bincount(cells.owner[data], values[data].astype(np.float64), CODE_BITS)
    return np.asarray(sums / (np.abs(sums).mean() + 1e-12), np.float64)
