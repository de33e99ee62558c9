"""Pictures as the video encoder takes them: 4:2:0 with the colours of BT.709."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from fantasytalking.media.container import SCALING

__all__ = ["encodable"]

_RED, _BLUE = 0.2126, 0.0722  # shares of luma, BT.709
_LUMA = np.array([_RED, 1 - _RED - _BLUE, _BLUE])
_YUV = np.array(
    [
        [*(219 / 255 * _LUMA), 16],
        [*(224 / 255 * (np.array([0, 0, 1]) - _LUMA) / (2 * (1 - _BLUE))), 128],
        [*(224 / 255 * (np.array([1, 0, 0]) - _LUMA) / (2 * (1 - _RED))), 128],
    ],
    np.float32,
)
"""RGB and 1 -> Y, U, V, 0 to 255 each, in the range of television."""


def encodable(frame: NDArray[np.uint8], number: int, fps: Fraction, reproducible: bool = False) -> av.VideoFrame:
    """A frame as the encoder takes it, with the time at which it is shown.

    Args:
        frame: uint8 RGB [H, W, 3] of even sides, contiguous.
        number: Its number in the video.
        fps: Frames a second.
        reproducible: Convert to the same bytes on every machine, in three times as long. The pictures are as close to the frame either way.
    """
    if reproducible:
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=SCALING
        )
    else:
        picture = _converted(frame)
    picture.pts, picture.time_base = number, 1 / fps
    return picture


def _converted(frame: NDArray[np.uint8]) -> av.VideoFrame:
    height, width = frame.shape[:2]
    picture = av.VideoFrame(width, height, "yuv420p")
    # A pixel's three values cost less than its luma alone, for which OpenCV has no fast way.
    luma = cv2.extractChannel(cv2.transform(frame, _YUV), 0)
    # the mean of four pixels, to which players that take chroma to lie between them put it back
    half = cv2.transform(cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA), _YUV)
    for plane, values in zip(
        picture.planes, (luma, cv2.extractChannel(half, 1), cv2.extractChannel(half, 2)), strict=True
    ):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = values
    picture.colorspace, picture.color_range = Colorspace.ITU709, ColorRange.MPEG
    return picture
