"""The kernel's lock on an open file: flock on Linux and macOS, a locked byte on Windows."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock", "open_to_lock", "remove_locked", "touch"]

_BYTE = 2**30
"""Byte that is locked on Windows: behind the content, as nobody else can read a locked byte there."""


def open_to_lock(path: Path) -> int:
    """Open a file for reading and writing, which is made if there is none; child processes do not inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


def lock(number: int) -> None:
    """Lock an open file; the lock is released with the process, however it ends.

    Args:
        number: The file's descriptor.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: The file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(number, _BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from error
    finally:
        os.lseek(number, 0, os.SEEK_SET)


def remove_locked(path: Path, number: int) -> None:
    """Remove a locked file and release it: in this order, so that nobody locks the file that is going away.

    On Windows an open file cannot be removed, so it is released first; if somebody else has opened it by then, it stays.
    """
    try:
        path.unlink()
    except OSError:
        os.close(number)
        if fcntl is None:
            with contextlib.suppress(OSError):
                path.unlink()
        return
    os.close(number)


def touch(path: Path, number: int) -> None:
    """Set the time of a file that is open to now."""
    os.utime(number if os.utime in os.supports_fd else path)
