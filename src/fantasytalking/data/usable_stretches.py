"""Which stretches of a video can be learned from: picture and sound are both there, the picture moves, and often enough to see lips.

The rules are those of `docs/data-preparation.md`. Preparation applies them to each scene, and training to a folder of videos that it
measures itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fantasytalking.data.preparation.preparation_settings import LEAST_FRAME_RATE, LONGEST_FREEZE
from fantasytalking.errors import VideoError
from fantasytalking.media.coverage import (
    NEGLIGIBLE_GAP,
    PictureChanges,
    SoundStretches,
    Stretch,
    picture_changes,
    sound_stretches,
)
from fantasytalking.media.video import probe_video

__all__ = [
    "SHOWN_SECONDS",
    "Unusable",
    "divide",
    "frame_rate_fault",
    "longest_usable",
]

SHOWN_SECONDS = 0.5
"""Shortest stretch that is reported when it is cut away; what is shorter is the ragged end of a recording."""


@dataclass(frozen=True)
class Unusable:
    """A stretch that is cut away.

    Attributes:
        stretch: The stretch.
        reason: "no-sound", "silent" or "frozen".
        detail: One sentence.
    """

    stretch: Stretch
    reason: str
    detail: str


def divide(
    whole: Stretch, sound: SoundStretches | None, frozen: Sequence[Stretch], longest_freeze: float = LONGEST_FREEZE
) -> tuple[list[Stretch], list[Unusable]]:
    """Divide a stretch of picture into what has sound and moves, and what is cut away.

    Args:
        whole: The stretch.
        sound: Where the file has sound; None does not look at the sound.
        frozen: Where the picture stands still.
        longest_freeze: Seconds for which it may, for the sentence.

    Returns:
        The usable stretches and those that are cut away, each in order. What is true of a stretch first, in the order of the reasons
        above, is its reason.
    """
    remaining, cut = [whole], []
    if sound is not None:
        present = _common([whole], [_reaching(part, whole) for part in sound.present])
        for gap in _without([whole], present):
            cut.append(Unusable(gap, "no-sound", f"The picture goes on without sound {_from_to(gap)}."))
        for part in _common(present, sound.mute):
            cut.append(Unusable(part, "silent", f"The sound is digital silence {_from_to(part)}."))
        remaining = _without(present, sound.mute)
    for part in _common(remaining, frozen):
        detail = f"The picture stands still {_from_to(part)}; at most {longest_freeze:g} s are accepted."
        cut.append(Unusable(part, "frozen", detail))
    return _without(remaining, frozen), sorted(cut, key=lambda part: part.stretch.start)


def _from_to(stretch: Stretch) -> str:
    return f"from {stretch.start:.2f} to {stretch.end:.2f} s"


def frame_rate_fault(
    changes: PictureChanges, stretch: Stretch, least: float = LEAST_FRAME_RATE
) -> tuple[float | None, str]:
    """Measure the real frame rate of a stretch: frames that differ from the one before, a second.

    Args:
        changes: The video's changes.
        stretch: The stretch.
        least: Least rate that is accepted.

    Returns:
        The rate in frames per second, None where the stretch is too short to tell, and a sentence if it is too low, else "".
    """
    rate = changes.rate(stretch.start, stretch.end)
    if rate is None or rate >= least:
        return rate, ""
    return rate, f"The picture changes {rate:g} times a second; lips need at least {least:g}."


def longest_usable(path: str | os.PathLike[str], seconds: float) -> Stretch:
    """Find the longest usable stretch in the first part of a video.

    Args:
        path: The video.
        seconds: Length of that part.

    Raises:
        InputError: The video cannot be read, has no sound, or no such stretch; the sentence says why.
    """
    end = min(seconds, probe_video(path).seconds)
    changes, sound = picture_changes(path, end), sound_stretches(path)
    usable, cut = divide(Stretch(0.0, end), sound, changes.frozen(LONGEST_FREEZE, end))
    best = max(usable, key=lambda stretch: stretch.seconds, default=None)
    if best is None or (cut and best.seconds < SHOWN_SECONDS):
        raise VideoError(f"Nothing of the video '{os.fspath(path)}' can be learned from: {cut[0].detail}")
    _, fault = frame_rate_fault(changes, best)
    if fault:
        raise VideoError(f"The video '{os.fspath(path)}' has too few frames: {fault}")
    return best


def _reaching(sound: Stretch, whole: Stretch) -> Stretch:
    """Sound that begins a moment after a picture, or ends a moment before it, is as long as the picture."""
    start = whole.start if 0 < sound.start - whole.start <= NEGLIGIBLE_GAP else sound.start
    end = whole.end if 0 < whole.end - sound.end <= NEGLIGIBLE_GAP else sound.end
    return Stretch(start, end)


def _common(some: Iterable[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """Where both are; each in order and without overlap."""
    pairs = ((max(a.start, b.start), min(a.end, b.end)) for a in some for b in others)
    return [Stretch(start, end) for start, end in pairs if start < end]


def _without(some: Iterable[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """What remains of stretches without others."""
    remaining = list(some)
    for other in others:
        pieces = []
        for one in remaining:
            pieces += [Stretch(one.start, min(one.end, other.start)), Stretch(max(one.start, other.end), one.end)]
        remaining = [piece for piece in pieces if piece.start < piece.end]
    return remaining
