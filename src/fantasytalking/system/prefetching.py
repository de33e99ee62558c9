"""Work in threads beside the caller's: a value that is needed later, or the next values while the current one is worked on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Prefetcher", "in_background"]

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin work in a thread of its own, which ends with it; the future gives its result, or raises its error."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="background")
    try:
        return pool.submit(work)
    finally:
        pool.shutdown(wait=False)


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
