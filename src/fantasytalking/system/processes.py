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

__all__ = ["set_threads", "spawning", "start_worker", "threads"]


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


def set_threads(count: int) -> None:
    """Set the number of threads of PyTorch and of OpenCV."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of PyTorch and of OpenCV within the block, and restore the old numbers afterwards."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    set_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _end_with_parent() -> None:
    """End this process when its parent ends: a killed parent cannot, and a resumed run would find the device in use."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
