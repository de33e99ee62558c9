"""The run that `kill_training.py` kills: a tiny transformer on the made-up samples of the tests."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.training.tiny_run import CONFIG, RandomSource, trainer  # noqa: E402


@dataclass(frozen=True)
class SlowSource(RandomSource):
    """Takes its time, so that a kill meets every part of a step."""

    seconds: float = 0.0

    def plan(self, step: int) -> Sequence[Any]:
        time.sleep(self.seconds)
        return super().plan(step)


def main(jobs: str) -> None:
    """Runs one after the other; a job is a folder, changes of the configuration, and the step to stop at."""
    torch.set_num_threads(1)
    for folder, changes, until in json.loads(jobs):
        steps, seconds = changes.pop("steps"), changes.pop("step_seconds")
        config = replace(CONFIG, **changes).scaled_to(steps)
        trainer(Path(folder), config, source=SlowSource(seconds=seconds)).train(until or None)


if __name__ == "__main__":
    main(sys.argv[1])
