"""The newest frame of a video that is being written, as a JPEG once a second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Previews"]

PAUSE = 1.0
"""Least seconds between two previews."""
LONGEST_SIDE = 512
QUALITY = 80


class Previews:
    """Writes previews.

    Args:
        path: The JPEG, which is replaced each time.

    Attributes:
        number: Counts them.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._due = path, 0.0
        self.number = 0

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Take a frame, uint8 RGB [H, W, 3], if it is time for one."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PAUSE
        scale = LONGEST_SIDE / max(frame.shape[:2])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        temporary = self._path.with_suffix(".part")
        try:
            temporary.write_bytes(data.tobytes())
            os.replace(temporary, self._path)
        except OSError:
            # The job may have been deleted, and no preview is worth a failure.
            return
        self.number += 1
