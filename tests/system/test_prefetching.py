"""Preparing batches ahead."""

from __future__ import annotations

import sys
import threading

import pytest

from fantasytalking.system.prefetching import SWITCH_INTERVAL, Prefetcher, in_background, quick_switches


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("ahead")]


def test_values_come_in_order_each_prepared_once_and_the_threads_end_with_the_block() -> None:
    prepared: list[int] = []

    def prepare(number: int) -> int:
        prepared.append(number)
        return 10 * number

    with Prefetcher(prepare, 2, 6) as ahead:
        assert [ahead.take(number) for number in range(6)] == [0, 10, 20, 30, 40, 50]
        assert 1 <= len(threads()) <= 2
    assert sorted(prepared) == list(range(6))
    assert threads() == []


def test_as_many_values_are_prepared_at_once_as_lie_ahead() -> None:
    together = threading.Barrier(3, timeout=30)  # broken, and so an error, unless three wait at it

    def prepare(number: int) -> int:
        if number:
            together.wait()
        return number

    with Prefetcher(prepare, 3, 7) as ahead:
        assert [ahead.take(number) for number in range(7)] == list(range(7))


def test_without_values_ahead_there_is_no_thread() -> None:
    with Prefetcher(lambda number: threading.current_thread().name, 0, 3) as ahead:
        assert ahead.take(0) == threading.current_thread().name
        assert threads() == []


def test_an_error_of_the_preparation_is_raised_where_the_value_is_taken_and_ends_the_thread() -> None:
    def prepare(number: int) -> int:
        if number == 1:
            raise ValueError("no such sample")
        return number

    with Prefetcher(prepare, 2, 9) as ahead:
        assert ahead.take(0) == 0
        with pytest.raises(ValueError, match="no such sample"):
            ahead.take(1)
    assert threads() == []


def test_work_in_the_background_ends_with_its_thread_and_gives_its_result_or_its_error() -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert go.wait(30)
        return 7

    future = in_background(work)
    assert begun.wait(30) and not future.done()
    go.set()
    assert future.result() == 7
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0).result()


def test_switches_are_quick_within_the_block_alone() -> None:
    before = sys.getswitchinterval()
    with quick_switches():
        assert sys.getswitchinterval() == pytest.approx(min(before, SWITCH_INTERVAL))
    assert sys.getswitchinterval() == before
