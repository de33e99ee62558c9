"""Waiting by a clock that can be put in place of the system's, so that what depends on time is tested without waiting."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """A clock, and a way to wait by it."""

    def now(self) -> float:
        """Seconds since some moment."""

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """Wait until a condition, whose lock is held, is notified, or so many seconds have passed; None: as long as it takes."""


class SystemClock:
    """The system's clock, which never goes back."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """See `Clock.wait`."""
        changed.wait(seconds)
