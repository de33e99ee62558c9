"""Processes: how workers are started, and how many threads each process uses."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext

import cv2
import torch

from fantasytalking.system.machine import usable_cores

__all__ = ["choose_one_thread", "second_thread", "set_threads", "spawning", "start_worker", "threads"]


def spawning() -> SpawnContext:
    """Context for starting processes; messages that the frameworks print while a new process imports them are silenced."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return get_context("spawn")


def start_worker(threads: int) -> None:
    """Make this process a quiet worker: it ends with its parent, leaves Ctrl-C to it, and uses a fixed number of threads.

    Args:
        threads: Number for PyTorch and for OpenCV.
    """
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # transformers takes seconds to import, which a worker may never need; when it is imported later, it reads the variable
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()
    set_threads(threads)


_is_choice = False
"""Whether nobody asked for the number of threads that this process has."""


def set_threads(count: int) -> None:
    """Set the number of threads of PyTorch and of OpenCV."""
    global _is_choice
    _is_choice = False
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def choose_one_thread() -> None:
    """Set one thread, where nobody asked for a number."""
    global _is_choice
    set_threads(1)
    _is_choice = True


@contextmanager
def second_thread() -> Iterator[None]:
    """Use two threads of PyTorch within the block, where one was chosen and the process may use two cores.

    For a network that is large enough to gain by it and whose results are the same: that of speech, which is encoded in half the time.
    """
    if not (_is_choice and torch.get_num_threads() == 1 and usable_cores() > 1):
        yield
        return
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of PyTorch and of OpenCV within the block, and restore the old numbers afterwards."""
    global _is_choice
    before = torch.get_num_threads(), cv2.getNumThreads(), _is_choice
    set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        _is_choice = before[2]


def _end_with_parent() -> None:
    """End this process when its parent ends: a killed parent cannot, and a resumed run would find the device in use."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
