"""Handling of Ctrl-C and SIGTERM: the current step is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class StopRequest:
    """Context manager in which the first SIGINT or SIGTERM is only recorded; a second one acts as usual.

    Outside the main thread, where Python allows no signal handlers, nothing is recorded.

    Attributes:
        asked: Whether a signal has arrived.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                before = signal.getsignal(number)
                # An ignored signal (SIGINT of a background job) stays ignored.
                if before is not signal.SIG_IGN and before is not None:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        # Not through a console, whose lock this very thread may hold.
        os.write(
            2,
            b"\nStopping: the step, and a validation that is due, are finished and saved first. A second Ctrl-C stops at once.\n",
        )
        signal.signal(number, self._before[number])  # type: ignore[arg-type]
