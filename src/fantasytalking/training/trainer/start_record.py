"""What a run ran on: enough to run it again, written into its folder at each start."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

import fantasytalking
from fantasytalking.system.machine import git_commit, library_versions

# The libraries that decide what a step computes.
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
        | library_versions(LIBRARIES),
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
