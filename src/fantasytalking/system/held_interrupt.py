"""Ctrl-C while a library calls back into Python, where the exception would be lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["interrupt_held"]


@contextlib.contextmanager
def interrupt_held() -> Iterator[None]:
    """Let a Ctrl-C within the block act at its end.

    An exception in a function that C calls through ctypes is printed and dropped, so that the user would see a traceback, and the command
    would go on. Outside the main thread, where no signal is answered, and where none raises, nothing is changed.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[-1])
