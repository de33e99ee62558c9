"""Memory that a process has freed and its allocator keeps."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["return_free_memory", "return_large_blocks"]

_M_MMAP_THRESHOLD = -3
"""Number of glibc's option, from malloc.h."""
_LARGE_BLOCK = 2**20


def return_large_blocks() -> None:
    """From now on, blocks of 1 MiB and more go back to the system as soon as they are freed, where the C library can be told to.

    By itself glibc takes blocks of up to 32 MiB from its heap, in which gaps between tensors that stay are often of no use: they took half
    as much again as the tensors. The cost, fresh pages for each block, is small beside what a large model computes.
    """
    if sys.platform != "linux":
        return
    tell = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if tell is not None:
        tell(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def return_free_memory() -> None:
    """Give what is free inside the allocator's heap back to the system, where the C library can be told to: some milliseconds.

    Small blocks of work that is over, such as that of the speech encoder, leave tens of megabytes there.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
