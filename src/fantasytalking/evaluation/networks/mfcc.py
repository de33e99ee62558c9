"""The speech features of SyncNet: mel-frequency cepstra as python_speech_features computes them by default, in NumPy.

That package (0.6, 2017) is no longer maintained; its arithmetic is part of SyncNet and is kept, oddities included: no window function,
the last frame padded with zeros, the zeroth coefficient replaced by the frame's log energy, samples as 16-bit integers.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import AudioError

__all__ = ["RATE", "mfcc"]

RATE = 16_000
_FRAME, _HOP, _FFT = 400, 160, 512  # 25 ms, 10 ms
_FILTERS, _COEFFICIENTS, _LIFTER, _EMPHASIS = 26, 13, 22, 0.97


def mfcc(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mel-frequency cepstra of a sound.

    Args:
        samples: [n], 16 kHz mono, -1..1; rounded to 16 bits as in a WAV file.

    Returns:
        [t, 13] at 100 frames per second.

    Raises:
        AudioError: `samples` is empty or not one channel.
    """
    if samples.ndim != 1 or samples.size == 0:
        raise AudioError(f"Speech features need one channel of samples [n], not an array of shape {samples.shape}.")
    signal = np.clip(np.round(np.asarray(samples, np.float64) * 32768), -32768, 32767)
    signal = np.append(signal[0], signal[1:] - _EMPHASIS * signal[:-1])
    count = 1 + max(0, -(-(len(signal) - _FRAME) // _HOP))
    padded = np.zeros((count - 1) * _HOP + _FRAME)
    padded[: len(signal)] = signal[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    energy, bands = power.sum(1), power @ _mel_filters().T
    tiny = np.finfo(float).eps  # silence has no logarithm
    cepstra = np.log(np.where(bands == 0, tiny, bands)) @ _cosines().T
    cepstra = cepstra * (1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_COEFFICIENTS) / _LIFTER))
    cepstra[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return np.asarray(cepstra, np.float64)


@functools.cache
def _cosines() -> NDArray[np.float64]:
    """The first rows of the orthonormal discrete cosine transform, type II: [13, 26]."""
    angles = np.pi / _FILTERS * np.outer(np.arange(_COEFFICIENTS), np.arange(_FILTERS) + 0.5)
    rows = np.sqrt(2 / _FILTERS) * np.cos(angles)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


@functools.cache
def _mel_filters() -> NDArray[np.float64]:
    """Triangles evenly spaced in mel from 0 to 8 kHz, their corners on whole bins: [26, 257]."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, _FILTERS + 2) / 2595) - 1)
    bins = np.floor((_FFT + 1) * corners / RATE)
    index = np.arange(_FFT // 2 + 1)
    left, centre, right = bins[:-2, None], bins[1:-1, None], bins[2:, None]
    rising = np.where((left <= index) & (index < centre), (index - left) / np.maximum(centre - left, 1), 0)
    falling = np.where((centre <= index) & (index < right), (right - index) / np.maximum(right - centre, 1), 0)
    return np.asarray(rising + falling, np.float64)
