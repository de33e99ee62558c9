"""Work in threads beside the caller's: a value that is needed later, or the next values while the current one is worked on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Prefetcher", "in_background", "quick_switches"]

SWITCH_INTERVAL = 0.0005
"""Seconds; Python's own is 0.005."""

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin work in a thread of its own, which ends with it; the future gives its result, or raises its error."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="background")
    try:
        return pool.submit(work)
    finally:
        pool.shutdown(wait=False)


@contextmanager
def quick_switches() -> Iterator[None]:
    """Let threads of this process hand over Python's interpreter ten times as often within the block.

    A thread that comes back from a network or from OpenCV waits for up to one interval until another one lets it go on. With several
    threads that call many short functions, that is a tenth of the time of decoding.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Prefetcher(Generic[T]):
    """Context manager that prepares numbered values in advance; leaving it ends its threads.

    Args:
        prepare: Function from a number to its value.
        ahead: Number of values to prepare beyond the one taken, each in a thread of its own; 0 uses no thread.
        end: First number that is never taken.
    """

    def __init__(self, prepare: Callable[[int], T], ahead: int, end: int) -> None:
        self._prepare, self._count, self._end = prepare, ahead, end
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[T]] = {}

    def __enter__(self) -> Prefetcher[T]:
        if self._count:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="ahead")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._ahead.clear()

    def take(self, number: int) -> T:
        """Return the value of a number, raising any error of its preparation."""
        if self._pool is None:
            return self._prepare(number)
        for one in range(number, max(number, min(number + self._count, self._end - 1)) + 1):
            if one not in self._ahead:
                self._ahead[one] = self._pool.submit(self._prepare, one)
        return self._ahead.pop(number).result()
