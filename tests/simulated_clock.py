"""A clock that passes only where somebody waits by it, and what happens meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable

Event = tuple[float, Callable[[], object]]


class SimulatedClock:
    """Computing takes no time; waiting passes it at once.

    Args:
        events: What happens at which second.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.time = 0.0
        self.events = sorted(events, key=lambda event: event[0])

    def now(self) -> float:
        return self.time

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        until = math.inf if seconds is None else self.time + max(seconds, 0.0)
        if self.events and self.events[0][0] <= until:
            at, happens = self.events.pop(0)
            self.time = max(self.time, at)
            happens()
            return
        assert until < math.inf, "waits for something that never comes"
        self.time = until
