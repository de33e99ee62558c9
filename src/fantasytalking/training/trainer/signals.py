"""Ctrl-C and the end that a cluster asks for: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """While it is entered, the first SIGINT or SIGTERM is only noted; another one acts as usual.

    In a thread other than the main one, where Python allows no handlers, it notes nothing.

    Attributes:
        asked: whether a signal came.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                before = signal.getsignal(number)
                # one that is ignored (a background job's SIGINT) stays ignored
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
        signal.signal(number, self._before[number])  # type: ignore[arg-type]
