"""The sound of a live session from its beginning: as it is heard in the video, and as the speech encoder hears it.

Speech and the silence that is put in where there is none lie on one time line. What nobody needs any more is forgotten.

Dimensions: n samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from fantasytalking.errors import AudioError
from fantasytalking.media.python_inputs import checked_rate
from fantasytalking.media.running_level import BLOCK, RunningLevel
from fantasytalking.pipeline.inputs import SPEECH_RATE

__all__ = ["LiveTimeline", "Tail", "checked_live_rate"]

Samples = npt.NDArray[np.float32]

_GRID = 25
"""Rates that are a multiple of it have blocks of at most 40 ms that are whole at 16 kHz, too."""
_MARGIN = 0.02
"""Seconds on both sides of a block that its resampling looks at."""
_FADE = 0.004
"""Seconds in which speech that breaks off falls silent, so that it does not click."""


def checked_live_rate(rate: object) -> int:
    """A sample rate of live speech.

    Raises:
        AudioError: It is no multiple of 25 from 8,000 to 192,000.
    """
    whole = checked_rate(rate)
    if whole % _GRID or not 8_000 <= whole <= 192_000:
        raise AudioError(
            f"Live speech has 8,000 to 192,000 samples a second, a multiple of {_GRID}, not {whole}; give a rate such as 16000 "
            "or 48000."
        )
    return whole


class Tail:
    """The last samples of a sound.

    Attributes:
        start: Number of the first that is kept.
        samples: float32 [n].
    """

    def __init__(self, start: int = 0, samples: Samples | None = None) -> None:
        self.start = start
        self.samples = np.zeros(0, np.float32) if samples is None else samples

    @property
    def end(self) -> int:
        """One past the number of the last."""
        return self.start + len(self.samples)

    def append(self, *pieces: Samples) -> None:
        """Add samples."""
        self.samples = np.concatenate([self.samples, *pieces])

    def between(self, first: int, end: int) -> Samples:
        """Samples [end - first]; silence where there are none."""
        result = np.zeros(end - first, np.float32)
        low, high = max(first, self.start), min(end, self.end)
        if low < high:
            result[low - first : high - first] = self.samples[low - self.start : high - self.start]
        return result

    def forget(self, before: int) -> None:
        """Forget the samples before a number."""
        dropped = min(max(before - self.start, 0), len(self.samples))
        self.samples, self.start = self.samples[dropped:].copy() if dropped else self.samples, self.start + dropped


class LiveTimeline:
    """Sound and speech of one session.

    Args:
        sample_rate: Samples a second of the sound.
        levels: What the speech passes through, in order, before it is encoded.

    Attributes:
        sound: As given, with silence put in.
        heard: The same at 16 kHz, at the level that the speech encoder wants; behind `sound` by less than 80 ms until the end.
        rests: Beginnings and ends, in samples of `sound`, of silence put in, as far as it is still needed.
    """

    def __init__(self, sample_rate: int, levels: tuple[RunningLevel, ...]) -> None:
        self.sample_rate, self._levels = sample_rate, levels
        self.sound, self.heard, self.rests = Tail(), Tail(), list[tuple[int, int]]()
        period = sample_rate // math.gcd(sample_rate, SPEECH_RATE)
        made = SPEECH_RATE // math.gcd(sample_rate, SPEECH_RATE)
        blocks = math.lcm(made, BLOCK) // made
        # A block in samples of the sound, and at 16 kHz.
        self._taken, self._made = blocks * period, blocks * made
        self._margin = 0 if sample_rate == SPEECH_RATE else -(-math.ceil(_MARGIN * sample_rate) // period) * period

    def append(self, *pieces: Samples) -> None:
        """Add speech."""
        self.sound.append(*pieces)
        self._hear(self.sound.end - self._margin)

    def missing(self, heard: int) -> int:
        """Samples of sound without which so many are not heard, possibly none."""
        return max(0, -(-heard // self._made) * self._taken + self._margin - self.sound.end)

    def rest_until(self, heard: int) -> None:
        """Put silence in so that at least so many samples are heard."""
        count = self.missing(heard)
        if not count:
            return
        silence = np.zeros(count, np.float32)
        fade = min(count, round(_FADE * self.sample_rate))
        if len(self.sound.samples):
            silence[:fade] = self.sound.samples[-1] * np.linspace(1, 0, fade + 2, dtype=np.float32)[1:-1]
        goes_on = bool(self.rests) and self.rests[-1][1] == self.sound.end
        first = self.rests.pop()[0] if goes_on else self.sound.end
        self.rests.append((first, self.sound.end + count))
        self.append(silence)

    def finish(self) -> None:
        """Nothing follows: hear all of it."""
        self._hear(-(-self.sound.end // self._taken) * self._taken)

    def _hear(self, end: int) -> None:
        """Make what is heard of the sound before a sample, in whole blocks of a fixed grid, so that chunks make no difference."""
        pieces = []
        start = self.heard.end // self._made * self._taken
        while start + self._taken <= end:
            first = max(0, start - self._margin)
            piece = self.sound.between(first, start + self._taken + self._margin)
            if self._margin:
                made = soxr.resample(piece, self.sample_rate, SPEECH_RATE)
                skipped = round((start - first) * SPEECH_RATE / self.sample_rate)
                piece = made[skipped : skipped + self._made]
            for level in self._levels:
                piece = level.apply(piece)
            pieces.append(piece)
            start += self._taken
        if pieces:
            self.heard.append(*pieces)

    def sound_of(self, first: int, end: int) -> tuple[Samples, bool]:
        """Sound between two samples, and whether all of it is silence that was put in."""
        return self.sound.between(first, end), any(low <= first and end <= high for low, high in self.rests)

    def forget(self, sound: int, heard: int) -> None:
        """Forget what lies before a sample of the sound, and before one that is heard."""
        # what is not heard yet is resampled with its margin
        needed = self.heard.end // self._made * self._taken - self._margin
        self.sound.forget(min(sound, needed))
        self.heard.forget(heard)
        self.rests = [(low, high) for low, high in self.rests if high > self.sound.start]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays."""
        numbers = np.array([self.sample_rate, self.sound.start, self.heard.start])
        levels = {
            f"level{i}.{name}": array for i, one in enumerate(self._levels) for name, array in one.state().items()
        }
        rests = np.array(self.rests, np.int64).reshape(-1, 2)
        return {"numbers": numbers, "sound": self.sound.samples, "heard": self.heard.samples, "rests": rests, **levels}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Go on from a stored state."""
        _, sound, heard = (int(value) for value in state["numbers"])
        self.sound = Tail(sound, np.array(state["sound"], np.float32))
        self.heard = Tail(heard, np.array(state["heard"], np.float32))
        self.rests = [(int(low), int(high)) for low, high in state["rests"]]
        for i, level in enumerate(self._levels):
            prefix = f"level{i}."
            level.restore(
                {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            )
