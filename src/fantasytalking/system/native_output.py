"""Output of native libraries, which goes to the terminal past Python."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["quiet_stderr"]

_turns = threading.RLock()  # two threads at once would keep each other's place for the real one


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what this process writes to stderr within the block, by native code too; for calls that are short and tell nothing of use."""
    with _turns:
        try:
            kept = os.dup(2)
        except OSError:
            # stderr is closed
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
