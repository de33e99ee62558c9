"""Progress of a preparation, phase by phase, for whoever shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fantasytalking.pipeline.progress import show_note

__all__ = ["PhaseCounts", "PhaseProgress", "polling"]

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class PhaseCounts:
    """Progress of one phase.

    Attributes:
        done: Number of items that are finished.
        kept: Number of those that became clips.
        dropped: Number of those that were left out.
    """

    done: int
    kept: int = 0
    dropped: int = 0


class PhaseProgress:
    """Receives the progress of each phase, of which this one shows nothing, and notes."""

    @contextmanager
    def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[PhaseCounts], None]]:
        """Show one phase for the duration of the block, which calls the yielded function now and then.

        Args:
            name: "videos", "clips" or "writing".
            total: Number of items.
            begun: Number of items that an earlier run finished.
        """
        yield lambda counts: None

    def note(self, text: str) -> None:
        """Tell one sentence about something that was left out or is not as before; this one prints it to stderr."""
        show_note(text)


@contextmanager
def polling(look: Callable[[], None]) -> Iterator[None]:
    """Call a function twice a second from a thread for the duration of the block."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(_POLL_SECONDS):
            look()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
