"""The machine and the software that figures were taken on: CPU, cores, memory, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from fantasytalking.errors import SettingsError

__all__ = [
    "choose_device",
    "cpu_name",
    "free_memory",
    "git_commit",
    "host_memory",
    "installed_version",
    "library_versions",
    "machine",
    "usable_cores",
]


def machine() -> dict[str, Any]:
    """Describe CPU, cores, system, Python, PyTorch, accelerator and the load at the moment, for the record of a measurement."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str:
    """Model name of the CPU, or "unknown"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def usable_cores() -> int:
    """Number of CPU cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: torch.device) -> float:
    """Free memory in bytes: that of a CUDA device, or the machine's for any other device.

    Linux says how much of it is free; elsewhere it is what psutil takes for available.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if hasattr(os, "sysconf_names") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float(psutil.virtual_memory().available)


def host_memory() -> int:
    """Bytes of main memory that this process can still have without swapping."""
    return int(psutil.virtual_memory().available)


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is the fastest kind that this machine has.

    Raises:
        SettingsError: There is no such device.
    """
    present = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    present += ["mps"] if torch.backends.mps.is_available() else []
    present += ["cpu"]
    if name == "auto":
        return torch.device(present[0])
    if name not in [*present, *(["cuda"] if torch.cuda.is_available() else [])]:
        raise SettingsError(f"There is no device '{name}' on this machine; use {', '.join(present)} or auto.")
    return torch.device(name)


def installed_version(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def library_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the given packages as far as they are installed: name -> version, in the given order."""
    found = {package: installed_version(package) for package in packages}
    return {package: known for package, known in found.items() if known is not None}


def git_commit(folder: Path) -> str | None:
    """Commit of the source tree that a package lies in, with "+" where files differ from it.

    Args:
        folder: The package's folder, which holds its `__init__.py`.

    Returns:
        40 hexadecimal digits; None outside a repository, or without git.
    """
    try:
        # a package installed beside somebody else's repository is not part of it
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
