"""What a run ran on: enough to run it again, written into its folder at each start."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import fantasytalking

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "peft", "bitsandbytes")


def describe_start(step: int, processes: int, fingerprint: str | None) -> dict[str, Any]:
    """One start of a run.

    Args:
        step: that it begins with.
        processes: that train together.
        fingerprint: checksum of the data, or None.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": step,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "data": fingerprint,
        "versions": {"python": platform.python_version(), "fantasytalking": fantasytalking.__version__}
        | library_versions(),
        "commit": git_commit(Path(fantasytalking.__file__).parent),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "processes": processes,
        },
    }


def library_versions() -> dict[str, str]:
    """Of the libraries that decide what a step computes, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """Commit of the source tree, with "+" where files differ from it; None outside a repository or without git."""
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
