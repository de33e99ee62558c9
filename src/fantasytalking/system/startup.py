"""What a command does around its import of the frameworks, before any of them is there."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

from fantasytalking.errors import SettingsError

__all__ = ["check_threads", "importing_frameworks"]

MOST_THREADS = 1024


@contextlib.contextmanager
def importing_frameworks() -> Iterator[None]:
    """Import the frameworks faster within the block, and let threads of PyTorch wait without using a core.

    A sixth of the time of the imports goes into the garbage collector, which looks at millions of new objects again and again, all of which
    stay. Threads of OpenMP that wait for each other spin by default: where several processes share the cores, each waits for threads that
    cannot run because others spin. `OMP_WAIT_POLICY`, which is read when PyTorch is loaded, is left as it is where it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    collected, first = gc.isenabled(), "torch" not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()
        if collected:
            gc.enable()


def check_threads(count: int | None) -> None:
    """Check a number of threads that a user gave; None is the library's choice.

    Raises:
        SettingsError: It is not within 1..1024.
    """
    if count is not None and not 1 <= count <= MOST_THREADS:
        raise SettingsError(f"--threads must be at least 1 and at most {MOST_THREADS}, but {count} was given.")
