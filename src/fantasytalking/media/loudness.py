"""Loudness of speech: measured, and brought to a common level.

Dimensions: n samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError
from fantasytalking.media.spooled_sound import pieces_of

__all__ = [
    "PEAK",
    "SILENCE_DBFS",
    "is_silent",
    "limit_peaks",
    "normalise_loudness",
    "normalise_pieces",
    "quiet_level",
]

Samples = npt.NDArray[np.float32]

SILENCE_DBFS = -70.0
_BLOCK_SECONDS = 0.05
PEAK = 0.95
"""Below which peaks are bent."""
_MAX_GAIN = 50.0  # dB
_NO_OFFSET = np.float32(0)


def is_silent(samples: Samples, sample_rate: int = 16000, threshold: float = SILENCE_DBFS) -> bool:
    """Whether no stretch of 50 ms is louder than a threshold.

    Args:
        samples: [n] in -1..1.
        sample_rate: Samples a second.
        threshold: RMS level in dB relative to full scale.

    Raises:
        AudioError: ``samples`` is no such array.
    """
    _check_samples(samples)
    levels = _block_levels(samples, max(1, int(sample_rate * _BLOCK_SECONDS)))
    return levels.size == 0 or float(levels.max()) < 10.0 ** (threshold / 20.0)


def quiet_level(samples: Samples, sample_rate: int) -> float:
    """How much quieter the quietest parts of a sound are than the loudest, in dB, 0 or less.

    Speech pauses for breath and closes its consonants, so 5 % of its blocks of 32 ms are far below its loud ones; music or noise under it
    fills these. Of 327 recordings of 45 speakers none lies above -21 dB; with music or noise 5 dB below the speech all of 660 lie above
    -20 dB.

    Args:
        samples: [n] in -1..1, not silent, at least a few seconds.
        sample_rate: Samples a second.
    """
    levels = _block_levels(samples, max(1, round(sample_rate * 0.032)))
    quiet, loud = np.quantile(levels, (0.05, 0.95))
    return 20.0 * float(np.log10(max(quiet, 1e-5) / max(loud, 1e-5)))


def normalise_loudness(samples: Samples, sample_rate: int = 16000, target: float = -20.0) -> Samples:
    """Bring speech to a common loudness, so that quiet and loud recordings give the same features.

    The level is the RMS of the blocks of 50 ms within 20 dB of the loudest ones, so pauses do not count and a click
    hardly does. Peaks above 0.76 are bent smoothly to stay below 0.95, so that a single click does not keep the
    speech quiet. Nothing is amplified by more than 50 dB, which keeps silence from becoming noise.

    Args:
        samples: float32 [n], any level.
        sample_rate: Samples a second.
        target: Level to reach, RMS in dB relative to full scale.

    Returns:
        float32 [n] without constant offset; silence is returned as it is.

    Raises:
        AudioError: ``samples`` is no such array.
    """
    if is_silent(samples, sample_rate, threshold=target - _MAX_GAIN - 20.0):
        return samples
    mean, gain = _speech_gain(samples, sample_rate, target)
    return limit_peaks((samples - mean) * gain, PEAK)


def normalise_pieces(samples: Samples, sample_rate: int, target: float) -> Iterator[Samples]:
    """Bring long speech to a common loudness piece by piece; together the pieces are what `normalise_loudness` gives."""
    if is_silent(samples, sample_rate, threshold=target - _MAX_GAIN - 20.0):
        yield from pieces_of(samples)
        return
    mean, gain = _speech_gain(samples, sample_rate, target)
    for piece in pieces_of(samples):
        yield limit_peaks((piece - mean) * gain, PEAK)


def _speech_gain(samples: Samples, sample_rate: int, target: float) -> tuple[np.float32, np.float32]:
    """Constant offset of speech, and the factor that brings it to the level wanted."""
    total = sum(float(piece.sum(dtype=np.float64)) for piece in pieces_of(samples))
    mean = np.float32(total / max(1, len(samples)))
    levels = _block_levels(samples, max(1, int(sample_rate * _BLOCK_SECONDS)), mean)
    loud = float(np.quantile(levels, 0.95))
    level = float(np.sqrt(np.mean(np.square(np.minimum(levels[levels >= 0.1 * loud], loud)))))
    gain = min(10.0 ** (target / 20.0) / max(level, 1e-12), 10.0 ** (_MAX_GAIN / 20.0))
    return mean, np.float32(gain)


def _check_samples(samples: object) -> None:
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype.kind != "f":
        given = f"{samples.dtype} {list(samples.shape)}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AudioError(f"Sound must be an array of mono samples [n], float in -1..1, not {given}; use load_audio().")


def limit_peaks(samples: Samples, peak: float) -> Samples:
    """Samples [n] of which those above 0.8 of a peak are bent smoothly to stay below it."""
    knee = 0.8 * peak
    magnitude = np.abs(samples)
    bent = knee + (peak - knee) * np.tanh((magnitude - knee) / (peak - knee))
    return np.where(magnitude > knee, np.copysign(bent, samples), samples).astype(np.float32)


def _block_levels(samples: Samples, block: int, offset: np.float32 = _NO_OFFSET) -> npt.NDArray[np.float64]:
    """RMS of each block less an offset, the rest at the end included as a block of its own."""
    levels = [np.zeros(0)]
    for piece in pieces_of(samples, 1000 * block):
        starts = np.arange(0, piece.size, block)
        energy = np.add.reduceat(np.square(piece - offset, dtype=np.float64), starts)
        levels.append(np.sqrt(energy / np.diff(np.append(starts, piece.size))))
    return np.concatenate(levels)


def mixed(tracks: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Sounds [n] heard together, quieter as far as they would be cut off at 1."""
    samples = np.asarray(np.sum(tracks, 0), np.float32)
    samples /= max(1.0, float(np.abs(samples).max()))
    return samples
