"""Runs that are killed in any of their phases end as undisturbed ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PHASES = {
    "tiny": ["tracks", "codec", "pairs", "painter", "transformer", "calibration", "export"],
    "distil-tiny": ["tracks", "student", "export"],
    "lip-sync": ["tracks", "mouths", "align", "network", "export"],
    "lora-tiny": ["transformer", "export"],
}
"""Phases of recipes that stand for all others, which are the same code at other widths."""

SEED = "1021"
"""Of moments well before the ends of the phases: a kill that comes after its phase costs a whole run more."""


@pytest.mark.slow
def test_a_run_that_is_killed_once_in_every_phase_ends_as_an_undisturbed_one() -> None:
    """A short version of `benchmarks/kill_training.py`; every start has another global random state, which must be as before at the end.

    Before: painter/step-7 and the painter in model/vae differed, and every run seeded the global state.
    """
    words = [sys.executable, str(ROOT / "benchmarks" / "kill_training.py"), "--kills", "1", "--recipes", *PHASES]
    words += ["--seed", SEED]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900)
    assert done.stdout, done.stderr[-3000:]
    rows = json.loads(done.stdout.splitlines()[-1])["recipes"]
    assert {row["recipe"]: row["different"] for row in rows if not row["equal"]} == {}
    assert {row["recipe"]: [name for name, kills in row["kills"].items() if kills] for row in rows} == PHASES
    assert done.returncode == 0
