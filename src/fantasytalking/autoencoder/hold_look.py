"""Frames brought back to the portrait's colours and sharpness, which drift where segments begin with decoded frames."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_GAIN", "MAX_SHIFT", "hold_look"]

MAX_GAIN = 1.1
"""Most by which contrast or sharpness of a segment's first frames is changed; drift within one segment is smaller."""
MAX_SHIFT = 8.0
"""Most by which a colour channel is shifted, of 255 levels."""
_BLUR = 1.0


def hold_look(frames: NDArray[np.uint8], portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring frames to the mean and spread of each colour channel of the portrait, and to its sharpness, within bounds.

    All frames are changed alike, so that nothing flickers.

    Args:
        frames: [n, H, W, 3].
        portrait: [H, W, 3].

    Returns:
        [n, H, W, 3].
    """
    values, wanted = frames.astype(np.float32), portrait.astype(np.float32)
    spread = wanted.std((0, 1)) / np.maximum(values.std((0, 1, 2)), 1e-3)
    gain = np.clip(spread, 1 / MAX_GAIN, MAX_GAIN)
    mean = values.mean((0, 1, 2))
    shift = np.clip(wanted.mean((0, 1)) - mean, -MAX_SHIFT, MAX_SHIFT)
    values = gain * (values - mean) + mean + shift
    sharpness = float(np.mean([_detail(frame) for frame in values]))
    more = float(np.clip(_detail(wanted) / max(sharpness, 1e-3), 1 / MAX_GAIN, MAX_GAIN)) - 1
    sharp = [frame + more * (frame - cv2.GaussianBlur(frame, (0, 0), _BLUR)) for frame in values]
    return np.asarray(np.clip(np.rint(np.stack(sharp)), 0, 255), np.uint8)


def _detail(image: NDArray[np.float32]) -> float:
    """Mean size of what a blur takes away."""
    return float(np.abs(image - cv2.GaussianBlur(image, (0, 0), _BLUR)).mean())
