"""Record of command, versions, data and machine, written to the run folder at each start so that the run can be repeated."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import fantasytalking
from fantasytalking.system.machine import git_commit, library_versions

# The libraries that affect the result of a step.
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "peft", "bitsandbytes")


def describe_start(step: int, processes: int, fingerprint: str | None, changed: Sequence[str] = ()) -> dict[str, Any]:
    """Describe one start of a run.

    Args:
        step: Steps done before this start.
        processes: Number of processes that train together.
        fingerprint: Checksum of the data; None if unknown.
        changed: Settings that differ from those of the earlier start, one text each.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": step,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "data": fingerprint,
        "changed": list(changed),
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
