"""What a file really holds: the stretches of time that have sound, and those in which the picture moves.

Dimensions: H height, W width. Second 0 is the first video frame, as everywhere in `media`. Timestamps are those of the decoded frames, so
packets that are missing or damaged count as gaps, and so does a frame that is shown for long because the next ones are missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError
from fantasytalking.media.audio import sound_times
from fantasytalking.media.container import open_media
from fantasytalking.media.video import iterate_frames

__all__ = ["NEGLIGIBLE_GAP", "PictureChanges", "SoundStretches", "Stretch", "picture_changes", "sound_stretches"]

NEGLIGIBLE_GAP = 0.05
"""Seconds without sound that are not a gap: blocks of an encoder, rounded timestamps."""
_SIDE = 256
_CELLS, _SMALLEST_CELL = 64, 4
# Grey levels by which the liveliest cell of a still picture changes. Of 405 real and generated clips, the three whose picture stands
# still stay below it for 1.2, 7.3 and 8.3 s, the other real ones for 0.10 s at most and the generated ones for 0.36 s.
_STILL = 1.5
# below what 16 bits can hold
_DIGITAL_SILENCE = 1e-5
# Of the same clips no real one is digitally silent for more than 0.11 s, and a generated one, in a pause, for 2.1 s.
_LONGEST_MUTE = 2.5
# a keyframe, or a single frame that got through, inside of a picture that stands still
_PULSE_SECONDS = 0.2
_RATE_WINDOW = 1.0


@dataclass(frozen=True)
class Stretch:
    """A period of a file.

    Attributes:
        start: Where it begins, in seconds after the first video frame.
        end: Where it ends, likewise.
    """

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class SoundStretches:
    """What a file holds of sound.

    Attributes:
        present: Periods in which there is sound, in order; a gap of up to `NEGLIGIBLE_GAP` does not divide them.
        mute: Periods of it that are nothing but zeros for more than 2.5 s, in order. A microphone always hears something, so this is
            sound that somebody took out, or put where there was none.
    """

    present: list[Stretch]
    mute: list[Stretch]


def sound_stretches(path: str | os.PathLike[str]) -> SoundStretches:
    """Find the periods in which a file has sound.

    Args:
        path: A video or sound file.

    Raises:
        AudioError: The file is missing, has no sound track, or nothing of it can be decoded.
    """
    present: list[Stretch] = []
    mute: list[Stretch] = []
    with open_media(path, "audio", AudioError) as container:
        for start, end, peak in sound_times(container, path):
            _extend(present, Stretch(start, end))
            if peak < _DIGITAL_SILENCE:
                _extend(mute, Stretch(start, end))
    return SoundStretches(present, [stretch for stretch in mute if stretch.seconds > _LONGEST_MUTE])


def _extend(found: list[Stretch], piece: Stretch) -> None:
    """Add a piece to the last period if it follows it."""
    if found and piece.start - found[-1].end <= NEGLIGIBLE_GAP:
        found[-1] = Stretch(found[-1].start, max(piece.end, found[-1].end))
    else:
        found.append(piece)


class PictureChanges:
    """Collects when the picture of a video changes, from every frame that is shown.

    A frame is new if any cell of the picture, of which there are 64 along its longer side, differs from that of the frame before: on
    average over the cell by more than 1.5 of 255 grey levels. The moving mouth of a small face is enough for that, encoder noise is not.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._new: list[bool] = []
        self._before: npt.NDArray[np.uint8] | None = None

    @property
    def seconds(self) -> float:
        """When the last frame that was added is shown, in seconds; 0 without any."""
        return self._times[-1] if self._times else 0.0

    def push(self, time: float, frame: npt.NDArray[np.uint8]) -> None:
        """Add the next frame.

        Args:
            time: When it is shown, in seconds.
            frame: uint8 RGB [H, W, 3], of the same size as the others.
        """
        grey = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
        self._times.append(time)
        self._new.append(self._before is None or liveliest_change(self._before, grey) > _STILL)
        self._before = grey

    def frozen(self, least: float, end: float) -> list[Stretch]:
        """Periods in which the picture stands still for longer than `least` seconds.

        Args:
            least: Longest hold that is accepted, in seconds. Frames that are repeated to reach another frame rate are held for less.
            end: End of the video in seconds.
        """
        shown = [time for time, new in zip(self._times, self._new, strict=True) if new]
        found: list[Stretch] = []
        for start, after in zip(shown, [*shown[1:], end], strict=True):
            if after - start <= least:
                continue
            if found and start - found[-1].end <= _PULSE_SECONDS:
                start = found.pop().start
            found.append(Stretch(start, after))
        return found

    def rate(self, start: float, end: float) -> float | None:
        """New frames a second: the median over all windows of a second, so that a pause does not count.

        Args:
            start: Where the period begins, in seconds.
            end: Where it ends.

        Returns:
            Frames per second, at most the file's own rate; None for a period that is too short to tell.
        """
        if end - start < _RATE_WINDOW:
            return None
        shown = np.array([time for time, new in zip(self._times, self._new, strict=True) if new])
        first = np.arange(start, end - _RATE_WINDOW + 1e-6, 0.1) - 1e-6
        counts = np.searchsorted(shown, first + _RATE_WINDOW) - np.searchsorted(shown, first)
        return float(np.median(counts) / _RATE_WINDOW)


def picture_changes(path: str | os.PathLike[str], seconds: float | None = None) -> PictureChanges:
    """Collect the changes of a video's picture; the whole video is decoded.

    Args:
        path: A video file.
        seconds: Look at its beginning only; None looks at all of it.

    Raises:
        VideoError: The file is missing, empty, corrupt or has no picture.
    """
    changes = PictureChanges()
    for _ in iterate_frames(path, longest_side=_SIDE, seen=changes.push):
        if seconds is not None and changes.seconds > seconds:
            break
    return changes


def liveliest_change(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> float:
    """Largest change of a cell between two grey pictures [H, W], in mean grey levels."""
    change = cv2.absdiff(before, after).astype(np.float32)
    height, width = change.shape
    cell = max(_SMALLEST_CELL, max(height, width) // _CELLS)
    cells = cv2.resize(change, (max(1, width // cell), max(1, height // cell)), interpolation=cv2.INTER_AREA)
    return float(cells.max())
