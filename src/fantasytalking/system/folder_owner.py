"""One process at a time writes into a folder: a lock file that says who, and that a dead owner does not keep.

The kernel's lock (flock) is released with the process, however it ends, so on one machine it alone decides. It says nothing about other
machines: some shared file systems lock on each machine separately, or not at all. The owner therefore touches its file every few seconds,
and another machine takes the folder over only after it has watched the file for a while without a sign of life.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from fantasytalking.errors import OutputError
from fantasytalking.system.file_locks import lock, open_to_lock, remove_locked, touch

__all__ = ["Owner", "owned"]

OWNER = ".owner.json"
BEAT = 5.0
"""Seconds between two signs of life."""
SILENCE = 60.0
"""Seconds without one after which an owner on another machine is taken for dead; network file systems cache times for up to a minute."""
LONG_AGO = 600.0
"""Age in seconds of a sign of life that needs no watching: clocks of machines do not differ by that much."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


@dataclass(frozen=True)
class Owner:
    """The process that writes into a folder.

    Attributes:
        doing: What it does, such as "training in".
        process: Its number.
        host: Name of its machine.
        since: When it began, UTC.
        boot: Identifies the running system, which may have been started again since.
        born: When the process was started, in seconds since 1970; numbers of processes are used again.
    """

    doing: str
    process: int
    host: str
    since: str
    boot: str
    born: float

    @classmethod
    def this_process(cls, doing: str) -> Owner:
        """Describe this process."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        return cls(doing, os.getpid(), socket.gethostname(), since, _boot(), psutil.Process().create_time())

    @property
    def is_local(self) -> bool:
        """Whether it runs, or ran, on this machine since it was started."""
        return self.boot == _boot()

    @property
    def name(self) -> str:
        """Process, machine and time, for a sentence."""
        return f"process {self.process} on {self.host}, since {self.since}"


@contextmanager
def owned(
    folder: Path, doing: str, *, file: str = OWNER, kind: str = "folder", tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Own a folder within the block; every other process that asks for it is refused until then.

    The folder is made if there is none, and removed again if the block leaves it empty.

    Args:
        folder: The folder.
        doing: What this process does with it, for the message to others: "training in", "preparing", "evaluating into".
        file: Path of the lock file below the folder.
        kind: What the folder is called in messages.
        tell: Receives a sentence if a dead owner left the folder, or if it takes time to find out.

    Raises:
        OutputError: A living process owns the folder, or the folder cannot be made.
    """
    folder = folder.expanduser()
    path = folder / file
    tell = tell or (lambda _: None)
    missing = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _locked(path)
        try:
            left = _read(path)
            if left is not None and _is_alive(left, path, held.holds, tell):
                raise _refusal(folder, left)
            _write(path, Owner.this_process(doing))
        except BaseException:
            os.close(held.number)
            raise
    except _HeldError as error:
        raise _refusal(folder, _read(path, patience=1.0), doing) from error
    except OSError as error:
        _remove_empty(missing)
        raise OutputError(
            f"The {kind} {folder} cannot be made or written ({error.strerror or error}); give a folder that can be written."
        ) from error
    if left is not None:
        tell(f"Who was {left.doing} '{folder}' before ({left.name}) was stopped on the way; this process takes over.")
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, held.number, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        remove_locked(path, held.number)
        _remove_empty(missing)


class _HeldError(Exception):
    """Another process holds the kernel's lock."""


@dataclass(frozen=True)
class _Lock:
    """An open lock file, and whether the kernel's lock is on it."""

    number: int
    holds: bool


def _locked(path: Path) -> _Lock:
    """Open a lock file and lock it, where the file system can."""
    while True:
        number = open_to_lock(path)
        holds = True
        try:
            try:
                lock(number)
            except BlockingIOError as error:
                raise _HeldError from error
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                holds = False
            # An owner that ended in between has removed the file: a lock on the old one is worth nothing.
            if _same(number, path):
                return _Lock(number, holds)
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _same(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path, patience: float = 0.0) -> Owner | None:
    """The owner that a file names; None if it names none, even after some seconds of waiting for a process that has only just locked it."""
    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Owner(**json.loads(path.read_text(encoding="utf-8")))
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def _write(path: Path, owner: Owner) -> None:
    # In place, as the lock is on this very file.
    try:
        with path.open("r+", encoding="utf-8") as file:
            file.write(json.dumps(asdict(owner)) + "\n")
            file.truncate()
    except OSError:
        path.unlink()
        raise


def _is_alive(owner: Owner, path: Path, holds: bool, tell: Callable[[str], None]) -> bool:
    """Whether the owner that a file names lives, though the kernel's lock could be had."""
    if owner.is_local:
        return not holds and _runs(owner)
    seen = path.stat().st_mtime_ns
    if time.time() - seen / 1e9 > LONG_AGO:
        return False
    tell(
        f"Another machine may still be using '{path.parent}' ({owner.name}); waiting up to {SILENCE:.0f} s for a sign of life."
    )
    until = time.monotonic() + SILENCE
    while time.monotonic() < until:
        time.sleep(min(1.0, BEAT))
        # Opening a file makes a network file system ask for its present times.
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns != seen:
                return True
    return False


def _runs(owner: Owner) -> bool:
    """Whether a process of this machine runs, and is the one that is meant."""
    try:
        return bool(abs(psutil.Process(owner.process).create_time() - owner.born) < 2)
    except psutil.Error:
        return False


def _refusal(folder: Path, owner: Owner | None, doing: str = "working in") -> OutputError:
    who = "" if owner is None else f" ({owner.name})"
    return OutputError(
        f"Another process is {doing if owner is None else owner.doing} '{folder}'{who}; wait for it, stop it, or choose another --output."
    )


def _beat(path: Path, number: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        with contextlib.suppress(OSError):
            touch(path, number)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that nothing was written into, innermost first."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _boot() -> str:
    """Identifies the running system: the same in all its containers, another one after a restart."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{socket.gethostname()} {round(psutil.boot_time() / 60)}"
