"""Long sounds that lie in a temporary file and are mapped into memory where they are read, so that their length costs none.

Dimensions: n samples.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fantasytalking.media.audio import Audio
from fantasytalking.system.files import full_disk_error

__all__ = ["SPOOLED", "Spool", "pieces_of", "release_pages"]

Samples = npt.NDArray[np.float32]

SPOOLED = 1 << 22
"""Samples from which on a sound is kept in a file: 87 s at 48 kHz, 16 MB."""
_PIECE = 1 << 20


class Spool:
    """Takes a sound piece by piece; a long one goes into a file without a name, which the system deletes when nobody reads it any more."""

    def __init__(self) -> None:
        self._pieces: list[Samples] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by its last reader
        self._waiting = self.count = 0
        self._is_long = False

    def push(self, samples: Samples) -> None:
        """Add samples [n].

        Raises:
            OutputError: The disk for temporary files is full.
        """
        self._pieces.append(np.asarray(samples, np.float32))
        self.count += len(samples)
        self._waiting += len(samples)
        self._is_long = self._is_long or self.count > SPOOLED
        if self._is_long and self._waiting >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        with full_disk_error(tempfile.gettempdir()):
            for piece in self._pieces:
                self._file.write(np.ascontiguousarray(piece).data)
            self._file.flush()
        self._pieces, self._waiting = [], 0

    def samples(self) -> Samples:
        """All samples [n]: in memory, or mapped from the file and to be changed in place only."""
        if not self._is_long:
            return np.concatenate([np.zeros(0, np.float32), *self._pieces])
        self._flush()
        return np.memmap(self._file, np.float32, "r+", shape=(self.count,))


def pieces_of(samples: Samples, length: int = _PIECE) -> Iterator[Samples]:
    """A sound in views of at most `length` samples; those of a spooled one are let go of behind the reader."""
    for start in range(0, len(samples), length):
        yield samples[start : start + length]
        release_pages(samples)


def release_pages(*sounds: Audio | Samples) -> None:
    """Let go of the memory that parts take which were read of spooled sounds; they are read again where they are needed."""
    for sound in sounds:
        array = sound.samples if isinstance(sound, Audio) else sound
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.flush()
            mapped.madvise(mmap.MADV_DONTNEED)
