"""A Ctrl-C that comes while a library calls back into Python."""

from __future__ import annotations

import ctypes
import signal

import pytest

from fantasytalking.system.held_interrupt import interrupt_held


def called_from_c(reached: list[str]) -> None:
    """Press Ctrl-C within a function that C calls, where Python drops exceptions."""

    @ctypes.CFUNCTYPE(ctypes.c_int)
    def inside() -> int:
        signal.raise_signal(signal.SIGINT)
        reached.append("end of the function")
        return 0

    inside()
    reached.append("end of the block")


def test_it_acts_at_the_end_of_the_block() -> None:
    before, reached = signal.getsignal(signal.SIGINT), list[str]()
    with pytest.raises(KeyboardInterrupt), interrupt_held():
        called_from_c(reached)
    assert reached == ["end of the function", "end of the block"] and signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_another_kind_hears_of_it_and_an_ignored_signal_stays_ignored() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with interrupt_held():
            called_from_c([])
            assert not heard
        assert heard == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupt_held():
            called_from_c([])
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
