"""Where the segments of a long video and the windows of a fused one begin and end: numbers only.

A segment is as long as a clip of the model may be, 4 n + 1 frames, and begins with the last `overlap` frames of the one before, so that it
begins at a multiple of 4 and its latent frames lie on the grid of the whole video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fantasytalking.geometry import Strides

__all__ = ["Segment", "floor_frames", "next_segment", "overlap_of", "window_starts", "window_weights"]

LEAST_NEW = 8
"""Frames that each segment adds at least; 4 where the model's clips are shorter than `SHORT`."""
SHORT = 25
QUIET = 0.1
"""Level of a pause relative to the loudest part of the stretch in which a segment may end: 20 dB below."""
SEARCHED = 0.4
"""Last part of a segment in which a pause is looked for."""

Levels = Callable[[int, int], NDArray[np.float32]]
"""Loudness of the frames from a first one to one before another, [n]."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a long video that is sampled at once.

    Attributes:
        number: Counted from 0.
        start: Number of its first frame in the video, a multiple of 4.
        num_frames: Its length, a multiple of 4 plus 1.
        given: Frames at its beginning that the segment before ends with; 0 for the first one.
        is_last: Whether the video ends with it.
    """

    number: int
    start: int
    num_frames: int
    given: int
    is_last: bool

    @property
    def end(self) -> int:
        """One past the number of its last frame."""
        return self.start + self.num_frames


def next_segment(before: Segment | None, total: int, longest: int, overlap: int, levels: Levels | None) -> Segment:
    """The segment that follows another one. It ends within a pause of the speech, if there is one in its last part.

    Args:
        before: The segment before; None for the first one.
        total: Frames of the whole video, or, as long as nobody knows that, those whose speech is there: a multiple of 4 plus 1.
        longest: Frames that a segment has at most, a multiple of 4 plus 1.
        overlap: Frames that neighbours share.
        levels: Loudness of the speech; None: segments are as long as they may be.
    """
    number, start, given = (0, 0, 0) if before is None else (before.number + 1, before.end - overlap, overlap)
    left = total - start
    if left <= longest:
        return Segment(number, start, left, given, True)
    # The rest must be worth a segment.
    new = LEAST_NEW if longest >= SHORT else Strides().time
    most = min(longest, left - new)
    least = max(overlap + new, round((1 - SEARCHED) * most))
    ends = list(range(floor_frames(least + Strides().time - 1), most + 1, Strides().time))
    best = ends[-1]
    if levels is not None:
        loud = levels(start + ends[0] - overlap, start + ends[-1] + overlap)
        limit = QUIET * float(loud[:-overlap].max(initial=0.0))
        # loudness before an end, and on both sides of it: where a pause ends, the face begins to move
        means = [[float(loud[end - ends[0] :][:count].mean()) for count in (overlap, 2 * overlap)] for end in ends]
        quiet = [(around, -end) for (pause, around), end in zip(means, ends, strict=True) if pause <= limit]
        if quiet:
            # of equally quiet places the latest
            best = -min(quiet)[1]
    return Segment(number, start, best, given, False)


def window_starts(total: int, longest: int, overlap: int) -> list[int]:
    """First latent frames of windows of `longest` latent frames over `total`; neighbours share at least `overlap`.

    The windows lie evenly, the first at the beginning and the last at the end.
    """
    if total <= longest:
        return [0]
    count = -(-(total - overlap) // (longest - overlap))
    return [round(i * (total - longest) / (count - 1)) for i in range(count)]


def window_weights(kind: str, starts: list[int], longest: int, total: int) -> NDArray[np.float32]:
    """Weight of each window at each of its latent frames [n, longest]; over the windows they add up to 1 at every frame of the video.

    Args:
        kind: `linear`: ramps over what neighbours share; `pyramid`: highest in the middle of each window, falling to both ends, which
            is the same where neighbours share less than half.
        starts: First latent frames of the windows.
        longest: Latent frames of each window.
        total: Latent frames of the video.
    """
    longest = min(longest, total)
    place = np.arange(longest)
    rows = np.ones((len(starts), longest), np.float32)
    for number, start in enumerate(starts):
        if kind == "pyramid":
            rows[number] = np.minimum(place + 1, longest - place)
            continue
        if number:
            shared = starts[number - 1] + longest - start
            rows[number] *= np.minimum(1, (place + 1) / (shared + 1))
        if number + 1 < len(starts):
            shared = start + longest - starts[number + 1]
            rows[number] *= np.minimum(1, (longest - place) / (shared + 1))
    sums = np.zeros(total, np.float32)
    for start, row in zip(starts, rows, strict=True):
        sums[start : start + longest] += row
    return np.stack([row / sums[start : start + longest] for start, row in zip(starts, rows, strict=True)])


def overlap_of(longest: int, usual: int) -> int:
    """Frames that segments of at most `longest` share, 4 k - 3: the usual number, or fewer where the model's clips are short."""
    return min(usual, floor_frames(0.4 * longest))


def floor_frames(frames: float, least: int = 1) -> int:
    """The largest multiple of 4 plus 1 that is not above a number of frames, but at least the one from `least` on."""
    stride = Strides().time
    return max((int(frames) - 1) // stride * stride + 1, least)
