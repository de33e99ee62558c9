"""Detection of clips with sound and picture in sync by a linear model: ridge regression from speech to mouth opening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.data.face_tracks import FaceTrack
from fantasytalking.data.motion_dataset import SPEECH_PER_FRAME
from fantasytalking.perception.landmarks import mouth_opening

CONTEXT = (-6, -4, -2, 0, 2, 4, 6)  # speech tokens of 20 ms around the frame
MAX_OFFSET = 10  # frames


@dataclass(frozen=True)
class SyncReport:
    """Sync of one clip.

    Attributes:
        offset: Frames by which the face lags behind the speech; 0 unless a shift is clearly better.
        correlation: Best correlation over all shifts.
        at_zero: Correlation without a shift.
        keep: Whether the clip is suitable for training.
    """

    offset: int
    correlation: float
    at_zero: float
    keep: bool


def _inputs(track: FaceTrack) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Speech with context [F, 7 d] and standardised mouth opening [F]."""
    speech = track.speech.astype(np.float32)
    frames = min(len(track.points), len(speech) // SPEECH_PER_FRAME)
    # A frame lies in the middle of its two tokens.
    index = np.clip(SPEECH_PER_FRAME * np.arange(frames)[:, None] + np.array(CONTEXT), 0, len(speech) - 1)
    opening = mouth_opening(track.points[:frames])
    opening = (opening - opening.mean()) / (opening.std() + 1e-6)
    return speech[index].reshape(frames, -1), opening.astype(np.float32)


def fit_ridge(tracks: Sequence[FaceTrack], penalty: float = 3e3, per_clip: int = 400) -> NDArray[np.float64]:
    """Fit the weights [7 d + 1] of the regression from speech to mouth opening."""
    gram: NDArray[np.float64] | None = None
    for track in tracks:
        x, y = _inputs(track)
        x = np.concatenate([x[:per_clip], np.ones((len(x[:per_clip]), 1), np.float32)], 1)
        joined = np.concatenate([x, y[:per_clip, None]], 1).astype(np.float64)
        products: NDArray[np.float64] = joined.T @ joined
        if gram is None:
            gram = products
        else:
            gram += products
    assert gram is not None
    size = len(gram) - 1
    ridge = np.asarray(np.linalg.solve(gram[:size, :size] + penalty * np.eye(size), gram[:size, size]), np.float64)
    return ridge


def measure_sync(track: FaceTrack, ridge: NDArray[np.float64]) -> SyncReport:
    """Correlate predicted and measured mouth opening over shifts of up to `MAX_OFFSET` frames.

    A clip is kept if there is any clear correlation, and shifted only if the best shift is clearly better than none.
    """
    x, y = _inputs(track)
    predicted = x @ ridge[:-1] + ridge[-1]
    scores = {}
    for shift in range(-MAX_OFFSET, MAX_OFFSET + 1):
        a = predicted[max(0, -shift) : len(y) - max(0, shift)]
        b = y[max(0, shift) : len(y) - max(0, -shift)]
        varied = len(a) > 10 and np.ptp(a) > 1e-6 and np.ptp(b) > 1e-6  # silence and still faces correlate with nothing
        scores[shift] = float(np.corrcoef(a, b)[0, 1]) if varied else 0.0
    best = max(scores, key=lambda s: scores[s])
    clear = scores[best] > max(0.3, scores[0] + 0.1) and abs(best) > 1
    offset = best if clear else 0
    return SyncReport(offset, scores[best], scores[0], keep=scores[offset] > 0.12)
