"""Batches of the next steps, prepared by a thread while the present one is trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Prefetcher"]

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Context manager that prepares values by number, some of them ahead; leaving it ends its thread.

    Args:
        prepare: number -> value.
        ahead: how many numbers beyond the one that is taken are prepared; 0 uses no thread.
        end: first number that is never taken.
    """

    def __init__(self, prepare: Callable[[int], T], ahead: int, end: int) -> None:
        self._prepare, self._count, self._end = prepare, ahead, end
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[T]] = {}

    def __enter__(self) -> Prefetcher[T]:
        if self._count:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="samples")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._ahead.clear()

    def take(self, number: int) -> T:
        """The value of a number; an error of its preparation is raised here."""
        if self._pool is None:
            return self._prepare(number)
        for one in range(number, max(number, min(number + self._count, self._end - 1)) + 1):
            if one not in self._ahead:
                self._ahead[one] = self._pool.submit(self._prepare, one)
        return self._ahead.pop(number).result()
