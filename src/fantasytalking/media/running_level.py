"""Loudness of speech whose end nobody knows yet: the running forms of `normalise_loudness` and of a speech encoder's own normalisation.

Both look at the last 30 seconds, and change slowly, so that neither the level nor what a speech encoder hears of silence jumps.

Dimensions: n samples, b blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fantasytalking.media.loudness import limit_peaks

__all__ = ["BLOCK", "RunningLevel", "speech_rule", "unit_rule"]

Samples = npt.NDArray[np.float32]
Blocks = npt.NDArray[np.float64]
Rule = Callable[[Blocks, Blocks], tuple[float, float]]
"""Offset and factor, in dB, from mean and energy of the last blocks [b]."""

BLOCK = 320
"""Samples of a block, 20 ms at 16 kHz: a speech feature."""
_REMEMBERED = 1500
"""Blocks that count, 30 s: as much as a speech encoder hears at once."""
_QUIET = -55.0
"""dBFS below which nothing is taken for speech: a room without a voice is not amplified."""
_DOUBT = 15
"""Blocks of speech that weigh as much as the guess before them, that the level is right: 0.3 s."""
_MOST = 30.0
"""Largest change of the level, dB."""
_FAST, _SLOW, _SETTLED = 1.0, 0.1, 50
"""Largest step from block to block in dB, before and after so many blocks."""
_SPREAD = 0.05
"""Standard deviation that is guessed before there is speech: that of speech at -26 dBFS."""
_LEAST_SPREAD = 0.003


class RunningLevel:
    """Brings blocks of speech, in order, to a level.

    Args:
        rule: `speech_rule` or `unit_rule`.
        peak: Peaks are bent smoothly to stay below it; None leaves them.
    """

    def __init__(self, rule: Rule, peak: float | None = None) -> None:
        self._rule, self._peak = rule, peak
        self._means, self._energies = np.zeros(0), np.zeros(0)
        self._offset = self._gain = math.nan
        self._seen = 0

    def apply(self, samples: Samples) -> Samples:
        """Bring samples [n], whole blocks, to the level."""
        blocks = [self._block(samples[start : start + BLOCK]) for start in range(0, len(samples), BLOCK)]
        return np.concatenate([np.zeros(0, np.float32), *blocks])

    def _block(self, block: Samples) -> Samples:
        self._means = np.append(self._means, block.mean(dtype=np.float64))[-_REMEMBERED:]
        self._energies = np.append(self._energies, np.square(block, dtype=np.float64).mean())[-_REMEMBERED:]
        offset, gain = self._rule(self._means, self._energies)
        before = (offset, gain) if math.isnan(self._gain) else (self._offset, self._gain)
        most = _FAST if self._seen < _SETTLED else _SLOW
        self._seen += 1
        self._offset = before[0] + (offset - before[0]) * 0.1
        self._gain = before[1] + min(max(gain - before[1], -most), most)
        share = np.linspace(0, 1, len(block) + 1)[1:]
        offsets = before[0] + share * (self._offset - before[0])
        gains = 10.0 ** ((before[1] + share * (self._gain - before[1])) / 20.0)
        result = ((block - offsets) * gains).astype(np.float32)
        return result if self._peak is None else limit_peaks(result, self._peak)

    def state(self) -> dict[str, Blocks]:
        """All that later blocks depend on."""
        numbers = np.array([self._offset, self._gain, self._seen])
        return {"means": self._means, "energies": self._energies, "numbers": numbers}

    def restore(self, state: dict[str, Blocks]) -> None:
        """Go on from a stored state."""
        self._means, self._energies = state["means"], state["energies"]
        self._offset, self._gain, seen = (float(value) for value in state["numbers"])
        self._seen = int(seen)


def speech_rule(target: float) -> Rule:
    """The rule that brings speech to a level in dBFS, as `normalise_loudness` measures it, here in blocks of 20 ms."""

    def rule(means: Blocks, energies: Blocks) -> tuple[float, float]:
        offset = float(means.sum()) / (len(means) + _DOUBT)
        # over 60 ms, about the 50 of the measure for whole recordings
        levels = np.sqrt(np.convolve(np.maximum(energies - offset**2, 0), np.ones(3) / 3)[: len(energies)])
        heard = levels[levels >= 10 ** (_QUIET / 20)]
        if not len(heard):
            return offset, 0.0
        loud = float(np.quantile(heard, 0.95))
        active = np.minimum(heard[heard >= 0.1 * loud], loud)
        gain = target - 10 * math.log10(float(np.square(active).mean()))
        certain = len(active) / (len(active) + _DOUBT)
        return offset, min(max(gain, -_MOST), _MOST) * certain

    return rule


def unit_rule(means: Blocks, energies: Blocks) -> tuple[float, float]:
    """The rule for zero mean and unit variance, as the feature extractor of wav2vec2 wants it."""
    count = len(means) + _DOUBT
    offset = float(means.sum()) / count
    variance = (float(energies.sum()) + _DOUBT * _SPREAD**2) / count - offset**2
    return offset, -20 * math.log10(max(math.sqrt(max(variance, 0.0)), _LEAST_SPREAD))
