"""Time from sound to frame, counted in steps of 5 ms, so that a session of any length takes the same memory."""

from __future__ import annotations

import numpy as np

__all__ = ["LiveDelay"]

_STEP = 0.005
_MOST = 12_000  # a minute


class LiveDelay:
    """Delays of the frames of a session: from when the last sample of a frame had come until the frame was given.

    Attributes:
        frames: Number of frames that had sound.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_MOST, np.int64)
        self.frames = 0

    def add(self, seconds: float) -> None:
        """Count a frame."""
        self._counts[min(max(int(seconds / _STEP), 0), _MOST - 1)] += 1
        self.frames += 1

    def percentile(self, percent: float) -> float:
        """Seconds within which so many percent of the frames came, to 5 ms; 0 without frames."""
        if not self.frames:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, percent / 100 * self.frames)))
        return round((place + 1) * _STEP, 3)

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"delay_median_seconds": self.percentile(50), "delay_99th_percentile_seconds": self.percentile(99)}

    def summary(self) -> str:
        """A sentence."""
        if not self.frames:
            return "There was no speech."
        return f"Delay from sound to frame: median {self.percentile(50):.2f} s, 99th percentile {self.percentile(99):.2f} s."
