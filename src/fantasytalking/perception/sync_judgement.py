"""When a sync curve is worth acting on, and how far a face is to be moved then."""

from __future__ import annotations

from dataclasses import dataclass

from fantasytalking.perception.lip_sync import SyncCurve

__all__ = ["CLEARLY", "FARTHEST", "LEAST_CONFIDENCE", "Alignment", "judge"]

LEAST_CONFIDENCE = 0.15
"""Median minus least distance below which nothing stands out."""
CLEARLY = 0.05
"""By how much less the distance must be for a clip to be moved."""
FARTHEST = 10  # frames


@dataclass(frozen=True)
class Alignment:
    """What a network found of a clip that it had not seen.

    Attributes:
        offset: frames by which the face was found to lag; 0 where nothing is clearly better.
        distance: least distance.
        at_zero: distance without a shift.
        confidence: median minus least distance.
    """

    offset: int
    distance: float
    at_zero: float
    confidence: float


def judge(curve: SyncCurve, least_confidence: float = LEAST_CONFIDENCE) -> Alignment:
    """When a curve is worth acting on: its minimum stands out, is not far away, and is clearly below the value at 0."""
    at_zero = float(curve.distances[curve.offsets == 0][0])
    clear = (
        curve.confidence >= least_confidence and abs(curve.offset) <= FARTHEST and at_zero - curve.distance >= CLEARLY
    )
    return Alignment(curve.offset if clear else 0, curve.distance, at_zero, curve.confidence)
