"""Blinks: how often, how deep, how long and how evenly both eyes close (ours, not one of the paper's metrics).

Letters: F frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import FACE_SCORE, Footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.metric_column import metric_column
from fantasytalking.evaluation.metrics.proxies import bundled_digest
from fantasytalking.evaluation.results import Column, Kind
from fantasytalking.system.flag_runs import longest_flag_run

__all__ = ["CLOSED_EYE", "Blink", "Blinks", "find_blinks", "standard"]

CLOSED_EYE = 0.72
"""Share of its median opening that the mesh network sees in an eye that is fully closed: the median of 61 blinks of 21 real people, looked
at one by one, of 0.42 to 0.90; that of 721 blinks of 25 people is 0.73, by one reading and by the mean of two. An eye that closes halfway
has about 0.86."""
LEAST_DEPTH = 0.15
"""Share of the median opening by which eyes have to close, and to open again. Of those 61 blinks it finds 56; of 18 other dips (looking
down, squinting, moving the head) it takes 2 for a blink."""
CLOSING, OPENING = 0.16, 0.24
"""Seconds in which eyes close and open again by that much: a look down is slower."""
LONGEST = 1.0
"""Seconds after which closed eyes are not a blink any more."""


@dataclass(frozen=True)
class Blink:
    """One blink.

    Attributes:
        start: Where the eyes are half closed, in seconds.
        end: Where they are half open again.
        remaining: Share of the median opening that is left of the person's right eye and left eye, as the mesh network sees it: see
            `CLOSED_EYE`.
    """

    start: float
    end: float
    remaining: tuple[float, float]

    @property
    def seconds(self) -> float:
        """Length at half of the depth."""
        return self.end - self.start

    @property
    def depth(self) -> float:
        """Share of the median opening that is left, mean of both eyes."""
        return sum(self.remaining) / 2

    @property
    def openings(self) -> tuple[float, float]:
        """Estimate of the share of the median opening that is really left of each eye, 0 for a closed one.

        What the mesh network sees of a closed eye, `CLOSED_EYE`, differs between people: a single blink may be off by a third.
        """
        right, left = (min(1.0, max(0.0, (share - CLOSED_EYE) / (1 - CLOSED_EYE))) for share in self.remaining)
        return right, left

    @property
    def symmetry(self) -> float:
        """How far the less closed eye closes, over how far the other one does: 1 where both close alike, 0 for a wink."""
        closing = [max(0.0, 1 - left) for left in self.remaining]
        return min(closing) / max(*closing, 1e-9)


def find_blinks(openings: NDArray[np.floating], fps: float) -> list[Blink]:
    """Find the blinks of a person.

    A blink is a dip of the opening of both eyes, each over its median, that falls within 0.16 s and rises within 0.24 s by at least 0.15,
    and lasts for a second at most. What is cut off by the beginning or end of the video is not counted.

    Args:
        openings: Openings of the person's right eye and left eye [F, 2], as `eye_readings.read_eyes` or `Footage.eyes` give them: one
            reading of the mesh network takes its errors in narrow eyes for blinks.
        fps: Frames per second.
    """
    relative = np.asarray(openings, np.float64)
    relative = relative / np.maximum(np.median(relative, axis=0), 1e-6)
    both = relative.mean(axis=1)
    dips, _ = find_peaks(-both, prominence=LEAST_DEPTH, wlen=2 * round(LONGEST * fps) + 1)
    _, _, starts, ends = peak_widths(-both, dips, rel_height=0.5, wlen=2 * round(LONGEST * fps) + 1)
    found: list[Blink] = []
    for start, end in zip(starts, ends, strict=True):
        blink = Blink(float(start / fps), float(end / fps), _least(relative, start, end))
        if blink.seconds > LONGEST or not _is_fast(both, start, end, fps):
            continue
        if found and blink.start <= found[-1].end:  # two minima of one long blink
            blink = Blink(
                found[-1].start, max(found[-1].end, blink.end), min(found[-1], blink, key=lambda b: b.depth).remaining
            )
            found.pop()
        found.append(blink)
    return found


def _least(relative: NDArray[np.float64], start: float, end: float) -> tuple[float, float]:
    right, left = relative[int(start) : int(np.ceil(end)) + 1].min(axis=0)
    return float(right), float(left)


def _is_fast(both: NDArray[np.float64], start: float, end: float, fps: float) -> bool:
    """Whether the eyes close and open by `LEAST_DEPTH` within the given times, around the moments in which they are halfway."""
    return _change(both, start, CLOSING, fps) >= LEAST_DEPTH and _change(both, end, OPENING, fps) >= LEAST_DEPTH


def _change(both: NDArray[np.float64], place: float, seconds: float, fps: float) -> float:
    reach = seconds * fps / 2
    around = both[max(0, math.floor(place - reach)) : math.ceil(place + reach) + 1]
    return float(np.ptp(around))


class Blinks(Metric):
    """Rate, depth, length and symmetry of the blinks of a clip."""

    name = "blinks"

    def __init__(self) -> None:
        weights = bundled_digest("face_landmark.tflite")
        seen = f"as the mesh network sees it, which leaves {CLOSED_EYE:g} of an eye that is fully closed"

        def column(key: str, decimals: int, definition: str, unit: str = "", kind: Kind = "occurring") -> Column:
            return metric_column("blinks", key, "neither", decimals, definition, weights, unit=unit, kind=kind)

        self.columns = (
            column(
                "blink_rate",
                1,
                "Dips of the opening of both eyes by at least 0.15 of their median, which fall within 0.16 s and rise within 0.24 s. "
                "Openings are means of two readings, of each frame and of its mirror image.",
                "per minute",
                "mean",
            ),
            column(
                "blink_depth",
                2,
                f"Share of its median opening that is left of an eye in a blink, mean of both eyes, {seen}.",
            ),
            column("blink_length", 2, "Time from half closed to half open in a blink.", "s"),
            column(
                "blink_symmetry",
                2,
                "How far the less closed eye closes in a blink over how far the other one does: 0 for a wink.",
            ),
        )

    def measure(self, clip: Footage, reference: Footage) -> Measurement:
        """Find the blinks of the longest stretch that shows the face.

        Raises:
            InputError: It is shorter than a second.
        """
        (openings, scores), fps = clip.eyes, clip.protocol.fps
        openings = openings[longest_flag_run(scores >= FACE_SCORE)]
        if len(openings) < fps:
            raise InputError(f"The face is seen in {len(openings)} frames in a row; blinks need a second.")
        blinks = find_blinks(openings, fps)
        values = {"blink_rate": len(blinks) / (len(openings) / fps / 60)}
        if blinks:
            values["blink_depth"] = float(np.mean([blink.depth for blink in blinks]))
            values["blink_length"] = float(np.mean([blink.seconds for blink in blinks]))
            values["blink_symmetry"] = float(np.mean([blink.symmetry for blink in blinks]))
        return Measurement(values)


def standard(device: str = "cpu") -> Blinks:
    """The only implementation, with the bundled face mesh."""
    return Blinks()
