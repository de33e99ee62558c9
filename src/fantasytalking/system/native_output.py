"""Output of native libraries, which goes to the terminal past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

__all__ = ["fill_closed_descriptors", "quiet_stderr"]

_turns = threading.RLock()  # two threads at once would keep each other's place for the real one


def fill_closed_descriptors() -> None:
    """Open the null device as standard input, output and error where a caller has closed them.

    The next file that is opened would get the number, and native libraries would write their messages into the video. `sys.stdout` and
    `sys.stdin` stay None, so that a command that needs them can say so; `sys.stderr`, which all may write to, goes nowhere.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free, which is this one
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


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
