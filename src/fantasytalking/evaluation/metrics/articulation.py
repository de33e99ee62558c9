"""Articulation: whether lips meet and open where speech demands it (ours, not one of the paper's metrics).

Letters: F frames, C closures, V vowels. Frame k is shown at k / fps seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.speech_targets import SpeechTargets
from fantasytalking.perception.face_measures import CLOSED_LIPS

__all__ = ["Articulation", "articulation", "opening_at_rest", "spread_ratio"]

TOLERANCE = 2
"""Frames around an onset in which the lips may meet."""
REST_MARGIN = 0.12
"""Seconds at both ends of a pause that are no rest: lips open before the sound and close after it."""
STILL_LIPS = 1e-3
"""Standard deviation of the opening, in eye distances, below which lips are still: still images have 0.0003, speech 0.009 and more."""


@dataclass(frozen=True)
class Articulation:
    """How well the opening of a mouth follows speech.

    Attributes:
        closed: Share of closures in which the lips meet, 0 to 1.
        contrast: Mean opening at vowels minus mean opening at closures, in eye distances.
        closures: Opening at each closure, [C]; NaN where no frame shows the face.
        vowels: Opening at each vowel, [V]; likewise.
    """

    closed: float
    contrast: float
    closures: NDArray[np.float64]
    vowels: NDArray[np.float64]


def articulation(opening: NDArray[np.floating], fps: float, targets: SpeechTargets) -> Articulation:
    """Compare the opening of the lips with what the speech demands.

    The opening at a closure is the least one from two frames before the consonant begins until it ends, or until two frames after its
    beginning, whichever is later. The opening at a vowel is the mean over its frames.

    Args:
        opening: `face_measures.lip_opening` [F]; NaN where a frame shows no face.
        fps: Frames per second.
        targets: Where lips have to meet and to open.

    Raises:
        InputError: No closure or no vowel lies within frames that show the face.
    """
    opening = np.asarray(opening, np.float64)
    starts, ends = np.round(targets.closures * fps).T
    lasts = np.maximum(starts + TOLERANCE, ends)
    closures = _over(opening, starts - TOLERANCE, lasts, np.nanmin)
    first, last = np.ceil(targets.vowels * fps - 1e-6)[:, 0], np.floor(targets.vowels * fps + 1e-6)[:, 1]
    # A vowel that is shorter than a frame lasts has the frame that is next to its middle.
    middle = np.round(targets.vowels.mean(axis=1) * fps)
    vowels = _over(opening, np.minimum(first, middle), np.maximum(last, middle), np.nanmean)
    if not np.isfinite(closures).any() or not np.isfinite(vowels).any():
        raise InputError(
            f"Of {len(closures)} bilabials and {len(vowels)} vowels in the speech, {int(np.isfinite(closures).sum())} and "
            f"{int(np.isfinite(vowels).sum())} fall on frames that show the face; one of each is needed at least."
        )
    closed = float((closures[np.isfinite(closures)] <= CLOSED_LIPS).mean())
    return Articulation(closed, float(np.nanmean(vowels) - np.nanmean(closures)), closures, vowels)


def _over(
    opening: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64], summary: np.ufunc
) -> NDArray[np.float64]:
    """A summary of the frames first to last, both included, of each of several stretches; NaN where none shows the face."""
    found = []
    for begin, end in zip(first, last, strict=True):
        part = opening[max(0, int(begin)) : max(0, int(end) + 1)]
        found.append(float(summary(part)) if np.isfinite(part).any() else np.nan)
    return np.array(found)


def spread_ratio(opening: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Standard deviation of the opening over that of the true one; both [F], NaN where a frame shows no face.

    Raises:
        InputError: The true lips are still.
    """
    spread = float(np.nanstd(true))
    if not spread > STILL_LIPS:
        raise InputError(
            f"The lips of the real clip are still (their opening varies by {spread:.4f} of the eye distance)."
        )
    return float(np.nanstd(opening)) / spread


def opening_at_rest(opening: NDArray[np.floating], silent: NDArray[np.bool_], fps: float) -> float | None:
    """Mean opening in pauses, without the first and last 0.12 s of each; None if there is no such pause.

    Args:
        opening: [F]; NaN where a frame shows no face.
        silent: Whether nobody speaks in each frame, [F].
        fps: Frames per second.
    """
    margin = round(REST_MARGIN * fps)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(silent, np.int8), [0]])))
    rest = np.zeros(len(silent), bool)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        # no speech before the first frame and after the last one can have moved the lips
        rest[start + margin * (start > 0) : stop - margin * (stop < len(silent))] = True
    found = np.asarray(opening, np.float64)[rest]
    return float(np.nanmean(found)) if np.isfinite(found).any() else None
