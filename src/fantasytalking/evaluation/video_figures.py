"""Figures of one finished video for monitoring a training run: lip sync, and the motion of mouth and head."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fantasytalking.errors import FaceError
from fantasytalking.evaluation.footage import load_footage
from fantasytalking.evaluation.metrics.sync_confidence import proxy as bundled_sync
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.perception.lip_sync import MIN_OVERLAP

__all__ = ["video_figures"]

FASTEST = 15
"""Maximum shift in the search for sync, in frames at 25 fps."""


def video_figures(path: Path) -> dict[str, float]:
    """Measure one video with sound.

    Returns:
        ``sync_confidence``, ``sync_distance`` and ``sync_offset`` (frames at 25 fps) of the bundled lip-sync network;
        ``mouth_motion``, the standard deviation of the mouth opening over time; ``head_motion``, that of the face's centre in units of
        its height. Figures that cannot be measured are left out.
    """
    footage = load_footage(path, Protocol(max_offset=FASTEST))
    try:
        points, _ = footage.track
    except FaceError:
        return {}
    run = footage.longest_run
    seen = points[run]
    if len(seen) < 2:
        return {}
    middles, height = seen[..., :2].mean(1), float(np.ptp(seen[..., 1], axis=1).mean())
    found = {
        "mouth_motion": float(np.std(mouth_opening(seen))),
        "head_motion": float(np.sqrt(middles.var(0).sum()) / max(height, 1e-6)),
    }
    if footage.sound is None or len(seen) <= MIN_OVERLAP:
        return found
    curve = bundled_sync().curve(footage, run)
    return found | {
        "sync_confidence": float(curve.confidence),
        "sync_distance": float(curve.distance),
        "sync_offset": float(curve.offset),
    }
