"""Long sounds that lie in a temporary file and are mapped into memory where they are read, so that their length costs none.

Dimensions: n samples.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from fantasytalking.system.files import full_disk_error

__all__ = ["SPOOLED", "Spool", "pieces_of", "release_pages"]

Samples = npt.NDArray[np.float32]

SPOOLED = 1 << 19
"""Samples from which on a sound is kept in a file: 11 s at 48 kHz, 2 MB. Several sounds and copies of pieces are there at a time."""
_PIECE = 1 << 18


class Spool:
    """Takes a sound piece by piece; a long one goes into a file without a name, which the system deletes when nobody reads it any more.

    Args:
        is_long: Whether it goes into a file however short it is.
    """

    def __init__(self, is_long: bool = False) -> None:
        self._pieces: list[Samples] = []
        self._file: IO[bytes] | None = None
        self._waiting = self.count = 0
        self._is_long = is_long

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
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is mapped
            for piece in self._pieces:
                self._file.write(np.ascontiguousarray(piece).data)
            self._file.flush()
        self._pieces, self._waiting = [], 0

    def samples(self) -> Samples:
        """All samples [n], in memory or mapped from the file; nothing can be added any more."""
        if not self._is_long:
            return np.concatenate([np.zeros(0, np.float32), *self._pieces])
        self._flush()
        assert self._file is not None
        # The mapping keeps the file, which has no name, for as long as it lives.
        mapped: Samples = np.memmap(self._file, np.float32, "r+", shape=(self.count,))
        self._file.close()
        return mapped

    def __del__(self) -> None:
        """Close the file of a spool that was given up."""
        if self._file is not None:
            self._file.close()


def pieces_of(samples: Samples, length: int = _PIECE) -> Iterator[Samples]:
    """A sound in views of at most `length` samples; those of a spooled one are let go of behind the reader.

    Args:
        samples: [n].
        length: Of a piece.
    """
    for start in range(0, len(samples), length):
        yield samples[start : start + length]
        release_pages(samples)


def release_pages(*sounds: Samples) -> None:
    """Let go of the memory that parts take which were read of spooled sounds; they are read again where they are needed."""
    for samples in sounds:
        mapped = getattr(samples, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.flush()
            mapped.madvise(mmap.MADV_DONTNEED)
