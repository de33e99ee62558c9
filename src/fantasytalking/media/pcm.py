"""Raw sound as it arrives, chunk by chunk: bytes of a PCM format, or arrays.

Dimensions: n samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import AudioError
from fantasytalking.media.python_inputs import audio_of

__all__ = ["PCM_FORMATS", "ChunkReader"]

PCM_FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}
"""FFmpeg's name of each accepted sample format, and NumPy's."""


class ChunkReader:
    """Makes samples of chunks. A sample that is split between two chunks of bytes is put together.

    Args:
        sample_rate: Samples a second.
        pcm_format: Format of bytes, a key of `PCM_FORMATS`.

    Attributes:
        left: Bytes of a sample that is not complete yet.

    Raises:
        AudioError: There is no such format.
    """

    def __init__(self, sample_rate: int, pcm_format: str = "s16le") -> None:
        if pcm_format not in PCM_FORMATS:
            raise AudioError(f"There is no PCM format '{pcm_format}' here; accepted are {', '.join(PCM_FORMATS)}.")
        self._rate, self._name = sample_rate, pcm_format
        self._kind = np.dtype(PCM_FORMATS[pcm_format])
        self.left = b""

    def read(self, chunk: Any) -> npt.NDArray[np.float32]:
        """Samples of the next chunk.

        Args:
            chunk: Bytes; or samples [n] as an array, tensor or list of numbers (several channels are mixed), of which floats are in -1..1
                and are cut off beyond.

        Returns:
            float32 [n], possibly none.

        Raises:
            AudioError: It is no such thing, or holds numbers that are not finite.
        """
        if isinstance(chunk, bytes | bytearray | memoryview):
            data = self.left + bytes(chunk)
            whole = len(data) // self._kind.itemsize * self._kind.itemsize
            self.left = data[whole:]
            chunk = np.frombuffer(data[:whole], self._kind)
        elif isinstance(chunk, list | tuple):
            chunk = np.asarray(chunk)
        if not getattr(chunk, "shape", (1,))[-1]:
            return np.zeros(0, np.float32)
        if getattr(chunk, "dtype", None) is not None and getattr(chunk.dtype, "kind", "") == "f":
            chunk = np.clip(chunk, -1.0, 1.0)
        return audio_of((chunk, self._rate))[0]

    def finish(self) -> None:
        """Check that the last chunk of bytes ended with a whole sample.

        Raises:
            AudioError: It did not.
        """
        if self.left:
            raise AudioError(
                f"The sound ends within a sample: {len(self.left)} bytes are left of {self._kind.itemsize}; is it {self._name}, mono?"
            )
