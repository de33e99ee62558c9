"""Names of workers, from which every process of the same machine can tell at once whether one is alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

__all__ = ["is_dead_here", "worker_name"]


def worker_name(server: str = "") -> str:
    """The name of this process: its server, machine, running system, number and start.

    The parts after the machine make it unique: numbers of processes are used again, and so are names of machines.

    Args:
        server: What else is to be known by the name, without "@".
    """
    return f"{server}@{_system()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_dead_here(name: str) -> bool:
    """Whether a name belongs to a process that ran in this system and does so no longer; of other systems nothing is known."""
    system, process, born = name.partition("@")[2].rsplit(":", 2)
    if system != _system():
        return False
    try:
        found = psutil.Process(int(process))
        return bool(abs(found.create_time() - float(born)) > 1 or found.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _system() -> str:
    """Identifies the running system and its space of process numbers: containers of one machine share the first, not the second."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, space = str(round(psutil.boot_time() / 60)), ""
    return f"{socket.gethostname()}/{boot}/{space}"
