"""Marks in the frames of a video: the invisible watermark, and the visible label over it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fantasytalking.provenance.label import Label
from fantasytalking.provenance.marks import Marks
from fantasytalking.provenance.watermark import Watermark

__all__ = ["FrameMarker"]


class FrameMarker:
    """Marks frame after frame.

    Args:
        marks: What the video is marked with.
        fps: Frames a second.
    """

    def __init__(self, marks: Marks, fps: float | Fraction) -> None:
        self._watermark = Watermark(marks.identifier) if marks.watermark else None
        self._label = None if marks.label == "off" else Label(marks.label_text, marks.label == "always")
        self._fps, self._number = float(fps), marks.first_frame

    def __call__(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The frame uint8 RGB [H, W, 3] with its marks; the array that is given is not changed."""
        if self._watermark is not None:
            frame = self._watermark.mark(frame)
        if self._label is not None:
            frame = self._label.draw(frame, self._number / self._fps)
        self._number += 1
        return frame
