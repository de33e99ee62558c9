"""Articulation: whether lips meet and open where speech demands it (ours, not one of the paper's metrics).

Letters: F frames, C closures, V vowels. Frame k is shown at k / fps seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import InputError
from fantasytalking.evaluation import phone_times
from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric, gather
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.speech_targets import SpeechTargets
from fantasytalking.perception.face_measures import CLOSED_LIPS, lip_opening
from fantasytalking.system.flag_runs import flag_runs

__all__ = [
    "Articulation",
    "LipArticulation",
    "articulation",
    "opening_at_rest",
    "openings",
    "silent_frames",
    "spread_ratio",
    "standard",
]

TOLERANCE = 2
"""Frames around an onset in which the lips may meet."""
REST_MARGIN = 0.12
"""Seconds at both ends of a pause that are no rest: lips open before the sound and close after it."""
QUIET = 0.05
"""Loudness, over that of the loud parts of a clip, below which a frame is quiet: single syllables may be no
speech to a voice detector."""
SHORTEST_PAUSE = 0.3
"""Seconds of a pause, as in THEval."""
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
    values: NDArray[np.float64] = np.asarray(opening, np.float64)
    starts, ends = np.round(targets.closures * fps).T
    lasts = np.maximum(starts + TOLERANCE, ends)
    closures = _over(values, starts - TOLERANCE, lasts, np.nanmin)
    first, last = np.ceil(targets.vowels * fps - 1e-6)[:, 0], np.floor(targets.vowels * fps + 1e-6)[:, 1]
    # A vowel that is shorter than a frame lasts has the frame that is next to its middle.
    middle = np.round(targets.vowels.mean(axis=1) * fps)
    vowels = _over(values, np.minimum(first, middle), np.maximum(last, middle), np.nanmean)
    if not np.isfinite(closures).any() or not np.isfinite(vowels).any():
        raise InputError(
            f"Of {len(closures)} bilabials and {len(vowels)} vowels in the speech, {int(np.isfinite(closures).sum())} and "
            f"{int(np.isfinite(vowels).sum())} fall on frames that show the face; one of each is needed at least."
        )
    closed = float((closures[np.isfinite(closures)] <= CLOSED_LIPS).mean())
    return Articulation(closed, float(np.nanmean(vowels) - np.nanmean(closures)), closures, vowels)


def _over(
    opening: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64], summary: Callable[..., Any]
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
    rest = np.zeros(len(silent), bool)
    for start, stop in flag_runs(silent):
        # no speech before the first frame and after the last one can have moved the lips
        rest[start + margin * (start > 0) : stop - margin * (stop < len(silent))] = True
    found = np.asarray(opening, np.float64)[rest]
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


def silent_frames(
    voiced: NDArray[np.float64], sound: NDArray[np.float32], frames: int, fps: float
) -> NDArray[np.bool_]:
    """Whether nobody speaks in each frame, [F]: no voice is detected, it is quiet, and that for at least 0.3 s.

    Args:
        voiced: Stretches in which a voice is detected, [n, 2] in seconds.
        sound: Sound [n] at 16 kHz.
        frames: F.
        fps: Frames per second.
    """
    edges = np.round(np.arange(frames + 1) / fps * SAMPLE_RATE).astype(int)
    blocks = [sound[start:stop] for start, stop in itertools.pairwise(edges)]
    loud = np.array([np.sqrt(np.mean(block**2)) if len(block) else 0.0 for block in blocks])
    silent = loud < QUIET * max(float(np.percentile(loud, 95)), 1e-9)
    times = np.arange(frames) / fps
    for start, end in voiced:
        silent &= (times < start) | (times > end)
    for start, stop in flag_runs(silent):
        if stop - start < SHORTEST_PAUSE * fps - 1e-6:
            silent[start:stop] = False
    return np.asarray(silent)


def openings(footage: Footage) -> NDArray[np.float64]:
    """Opening of the lips in every frame, [F]; NaN where a frame shows no face."""
    return np.where(footage.seen, lip_opening(footage.track[0]), np.nan)


class LipArticulation(Metric):
    """Closures, contrast, spread against the truth, and rest of the lips."""

    name = "articulation"
    hears = True
    compares = True

    def __init__(self) -> None:
        eyes = "in distances of the outer corners of the eyes"
        phones = "syllables with known onsets, or phones that hama recognises in the sound"
        weights = bundled_digest("face_landmark.tflite")
        installed = phone_times.is_installed()
        self.remark = (
            ""
            if installed
            else "Closures and contrast of the lips are measured only in clips with a file of onsets, as the package hama is not "
            'installed; install it with: pip install "fantasytalking[eval]"'
        )
        heard = weights | {phone_times.PACKAGE: phone_times.version()}
        self.columns = (
            metric_column(
                "articulation",
                "lips_closed",
                "higher",
                3,
                f"Share of the bilabials p, b and m within two frames of whose onset the lips are at most {CLOSED_LIPS:g} apart, {eyes}: "
                f"of {phones}.",
                heard,
            ),
            metric_column(
                "articulation",
                "lip_contrast",
                "neither",
                3,
                f"Mean opening of the lips at vowels minus mean of the least opening around bilabials, {eyes}: of {phones}.",
                heard,
            ),
            metric_column(
                "articulation",
                "lip_spread",
                "neither",
                3,
                "Standard deviation of the opening of the lips over time, over that of the real clip; median over clips.",
                weights,
                kind="median",
            ),
            metric_column(
                "articulation",
                "lip_rest",
                "neither",
                3,
                f"Mean opening of the lips, {eyes}, in pauses of at least {SHORTEST_PAUSE:g} s without voice (Silero VAD) and sound, but "
                f"for their first and last {REST_MARGIN:g} s.",
                weights,
            ),
        )

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Measure what the sound allows: closures need bilabials, rest a pause, and spread real lips that move."""
        opening, fps = openings(clip), clip.protocol.fps

        def spread() -> dict[str, float]:
            return {"lip_spread": spread_ratio(opening, openings(reference))}

        def spoken() -> dict[str, float]:
            if clip.targets is None:
                return {}
            found = articulation(opening, fps, clip.targets)
            return {"lips_closed": found.closed, "lip_contrast": found.contrast}

        def rest() -> dict[str, float]:
            if clip.sound is None:
                return {}
            found = opening_at_rest(opening, silent_frames(clip.voiced, clip.sound, len(opening), fps), fps)
            return {} if found is None else {"lip_rest": found}

        return gather(spread, spoken, rest)


def standard(device: str = "cpu") -> LipArticulation:
    """The only implementation, with the bundled face mesh."""
    return LipArticulation()
