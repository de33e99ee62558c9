"""Decision from a sync curve whether a clip is clearly out of sync, and by how many frames its face is to be moved."""

from __future__ import annotations

from dataclasses import dataclass

from fantasytalking.perception.lip_sync import SyncCurve

__all__ = ["CLEARLY", "FARTHEST", "LEAST_CONFIDENCE", "Alignment", "judge"]

LEAST_CONFIDENCE = 0.15
"""Median minus least distance below which nothing stands out."""
CLEARLY = 0.05
"""Least drop of the distance from offset 0 to the minimum for which a clip is moved."""
FARTHEST = 10
"""Largest offset, in frames, by which a clip is moved."""


@dataclass(frozen=True)
class Alignment:
    """Sync of a clip, as judged by a network that was not trained on it.

    Attributes:
        offset: Frames by which the face lags behind the sound; 0 where no offset is clearly better.
        distance: Least distance over all offsets.
        at_zero: Distance at offset 0.
        confidence: Median minus least distance.
    """

    offset: int
    distance: float
    at_zero: float
    confidence: float


def judge(curve: SyncCurve, least_confidence: float = LEAST_CONFIDENCE) -> Alignment:
    """Judge a curve: its offset counts only where the minimum stands out, is not far away, and is clearly below the value at 0."""
    at_zero = float(curve.distances[curve.offsets == 0][0])
    clear = (
        curve.confidence >= least_confidence and abs(curve.offset) <= FARTHEST and at_zero - curve.distance >= CLEARLY
    )
    return Alignment(curve.offset if clear else 0, curve.distance, at_zero, curve.confidence)
