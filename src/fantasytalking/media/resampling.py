"""Resampling of sound in one streaming pass.

Dimensions: n, m samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

__all__ = ["StreamResampler"]

Samples = npt.NDArray[np.float32]


class StreamResampler:
    """Resamples a stream of sound piece by piece; restarted where the stream changes its own rate.

    Args:
        sample_rate: Samples a second of the result.
    """

    def __init__(self, sample_rate: int) -> None:
        self._target = sample_rate
        self._source = 0
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: Samples, rate: int) -> Samples:
        """Take in samples [n] of a rate, and give those [m] that are ready."""
        head = np.zeros(0, np.float32)
        if rate != self._source:
            head = self.finish()
            self._source = rate
            self._stream = None if rate == self._target else soxr.ResampleStream(rate, self._target, 1, dtype="float32")
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        body = samples if self._stream is None else self._stream.resample_chunk(samples)
        return np.concatenate([head, body]) if len(head) else body

    def finish(self) -> Samples:
        """Give the samples [m] that were held back; nothing follows them."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        tail: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream = None
        return tail
