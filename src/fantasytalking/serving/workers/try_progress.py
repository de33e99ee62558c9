"""How far a try is: stages of the library as a share of the whole, with an estimate of the time left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fantasytalking.pipeline.progress import Advance, Progress

__all__ = ["TryEnded", "TryProgress"]

USUAL_SECONDS: Mapping[str, float] = {
    "reading": 1,
    "tracking": 10,
    "loading": 3,
    "encoding": 2,
    "sampling": 20,
    "generating": 30,
    "decoding": 30,
    "looking at the mouth": 5,
    "dubbing": 20,
    "writing": 2,
}
"""Stages of the library with their lengths in proportion, until a job has told the real ones."""


class TryEnded(BaseException):
    """The try goes on no longer; its reason is in `TryProgress.stop`."""


class TryProgress(Progress):
    """Progress that another thread reads, and can end.

    Args:
        expected: Stage -> seconds, of an earlier job of the same kind; stages that are not among them count nothing.

    Attributes:
        shown_stage: Name of the present stage, or None.
        share: How far the whole is, 0 to 1; it never falls.
        stop: Why the try is to end, set by another thread: the next step of any stage raises `TryEnded`.
    """

    def __init__(self, expected: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.shown_stage: str | None = None
        self.share = 0.0
        self.stop: str | None = None
        self._expected = dict(expected or USUAL_SECONDS)
        self._known = expected is not None
        self._begun = time.monotonic()

    def show_note(self, text: str) -> None:
        """Notes are part of the job."""

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time to the end; None where too little is done to tell."""
        passed = time.monotonic() - self._begun
        if self.share <= 0.02 and self._known:
            return max(0.0, sum(self._expected.values()) - passed)
        if self.share < 0.1:
            return None
        return passed * (1 - self.share) / self.share

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Advance]:
        """Follow a stage."""
        before, self.shown_stage = self.shown_stage, name
        whole = sum(self._expected.values()) or 1.0
        start, length = self.share, self._expected.get(name, 0.0) / whole
        done = 0

        def advance(steps: int = 1) -> None:
            nonlocal done
            done += steps
            self._reach(start + length * min(1.0, done / max(1, total)))

        self._reach(start)
        yield advance
        self._reach(start + length)
        self.shown_stage = before

    def nested_step(self) -> None:
        """End the try within a segment of a long video, which may take minutes."""
        if self.stop is not None:
            raise TryEnded

    def _reach(self, share: float) -> None:
        self.share = max(self.share, min(share, 0.99))
        if self.stop is not None:
            raise TryEnded
