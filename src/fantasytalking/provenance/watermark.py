"""The invisible watermark: a faint fixed pattern in the brightness of all frames, stronger where the picture has detail.

`Watermark(identifier).embed(frames)` writes it and `Watermark.read(frames)` looks for it, whatever the method between them. The
method is spread spectrum: thousands of cells, each a grey level or two lighter or darker, hold a few bits, so that the mark survives
encoding, scaling and cropping. docs/provenance.md compares it with a neural network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import numpy.typing as npt

from fantasytalking.provenance.watermark_pattern import pattern_of
from fantasytalking.provenance.watermark_reader import Reading, read_watermark

__all__ = ["STRENGTH", "Watermark"]

Frame = npt.NDArray[np.uint8]

STRENGTH = 1.1
"""Grey levels of the pattern in a plain part of the picture, twice to thrice as many in detail: chosen by benchmarks/watermark.py."""
_RENEWED_FRAMES = 50
"""How long the strength at each place is kept: it follows the detail, which moves little in this time."""


class Watermark:
    """Marks frames with an identifier.

    Args:
        identifier: 32 bits.
        strength: See `STRENGTH`.
    """

    def __init__(self, identifier: int, strength: float = STRENGTH) -> None:
        self._identifier, self._strength = identifier, strength
        self._pattern: npt.NDArray[np.float32] | None = None
        self._lighter = self._darker = np.zeros((0, 0, 3), np.uint8)
        self._number = 0

    def embed(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames uint8 RGB [H, W, 3] of a video, of one size, with the watermark; those given are not changed."""
        for frame in frames:
            yield self.mark(frame)

    def mark(self, frame: Frame) -> Frame:
        """The next frame of the video with the watermark."""
        if self._number % _RENEWED_FRAMES == 0 or self._lighter.shape != frame.shape:
            self._renew(frame)
        self._number += 1
        return np.asarray(cv2.subtract(cv2.add(frame, self._lighter), self._darker), np.uint8)

    @staticmethod
    def read(frames: Iterable[Frame]) -> Reading:
        """Look for the watermark in frames of one size; a few dozen of a video, spread over it, are enough."""
        return read_watermark(frames)

    def _renew(self, frame: Frame) -> None:
        shape = (frame.shape[0], frame.shape[1])
        if self._pattern is None or self._pattern.shape != shape:
            self._pattern = pattern_of(self._identifier, shape)
        levels = self._strength * self._pattern * _visibility(frame)
        # Rounding would take away whatever is below half a grey level, so chance decides by how far it is from the next.
        chance = np.random.RandomState(0).random_sample(shape)
        whole = np.floor(levels + chance)
        self._lighter, self._darker = (
            np.repeat(np.clip(sign * whole, 0, 255).astype(np.uint8)[..., None], 3, axis=2) for sign in (1, -1)
        )


def _visibility(frame: Frame) -> npt.NDArray[np.float32]:
    """How much of the pattern each place [H, W] hides: detail hides it, black shows it."""
    height, width = frame.shape[:2]
    light = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(light, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    mean = cv2.blur(small, (5, 5))
    detail = np.sqrt(np.maximum(cv2.blur(small * small, (5, 5)) - mean * mean, 0))
    share = np.clip(0.7 + detail / 12, 0.7, 2.0) * np.clip(0.5 + mean / 100, 0.6, 1.0)
    return np.asarray(cv2.resize(cv2.GaussianBlur(share, (0, 0), 2), (width, height)), np.float32)
