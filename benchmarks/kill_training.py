"""Kills a training run with SIGKILL at random points and compares what comes out with a run that nobody disturbed.

The run is resumed after each kill until it is done; then the losses of its log (the last record of each step) and its final weights,
averages and optimiser state must be equal bit for bit. Prints one JSON line.

    python benchmarks/kill_training.py --kills 20
    python benchmarks/kill_training.py --kills 20 --processes 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fantasytalking.training.trainer.checkpoints import Stored  # noqa: E402
from fantasytalking.training.trainer.run_folder import RunFolder  # noqa: E402

TIMES = (
    "steps_per_second",
    "samples_per_second",
    "tokens_per_second",
    "minutes_left",
    "memory_gib",
    "mfu",
    "peak_flops",
)


def command(run: Path, steps: int, processes: int, step_seconds: float) -> list[str]:
    """A run on made-up samples that writes a checkpoint as often as it can."""
    changes = {"checkpoint_minutes": 0.0, "fsdp": processes > 1, "log_every": 3, "steps": steps}
    jobs = json.dumps([[str(run), changes | {"step_seconds": step_seconds}, 0]])
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    return [sys.executable, *launcher, "-m", "benchmarks.tiny_training", jobs]


def run_until(words: Sequence[str], run: Path, rng: random.Random | None, log: Path) -> bool:
    """Start the run; with `rng`, kill it a random while after it has begun to write. Returns whether it was killed."""
    began = progress(run)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        while rng is not None and process.poll() is None and progress(run) == began:
            time.sleep(0.005)
        if rng is not None:
            time.sleep(rng.uniform(0, 1.0))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
        if process.wait() != 0:
            raise RuntimeError(f"the run failed; {log} says why")
        return False


def progress(run: Path) -> tuple[str, ...]:
    """What tells that a run works on its steps."""
    return tuple(sorted(path.name for path in run.glob("*step-*"))) if run.exists() else ()


def losses(run: Path) -> list[dict[str, object]]:
    """Records without the times, the last of each step."""
    return [{k: v for k, v in record.items() if k not in TIMES} for record in RunFolder(run).records()]


def state(run: Path) -> dict[str, torch.Tensor]:
    """Everything that the newest checkpoint holds."""
    latest = RunFolder(run).latest()
    assert latest is not None
    with Stored(latest) as stored:
        return {key: stored.whole(key) for key in stored.places}


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often")
    parser.add_argument("--steps", type=int, default=600, help="steps of the run; it must last for all kills")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together (FSDP2)")
    parser.add_argument("--seed", type=int, default=0, help="of the random points")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; nothing means a temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        straight, killed = folder / "straight", folder / "killed"
        run_until(command(straight, options.steps, options.processes, 0.0), straight, None, folder / "straight.log")
        rng, kills, points = random.Random(options.seed), 0, []
        words = command(killed, options.steps, options.processes, 0.03)
        while kills < options.kills and run_until(words, killed, rng, folder / "killed.log"):
            kills += 1
            latest = RunFolder(killed).latest()
            points.append(0 if latest is None else int(latest.name.removeprefix("step-")))
            print(f"kill {kills} of {options.kills}: newest complete checkpoint is step {points[-1]}", file=sys.stderr)
        run_until(command(killed, options.steps, options.processes, 0.0), killed, None, folder / "killed.log")
        one, two = losses(straight), losses(killed)
        first, second = state(straight), state(killed)
        equal = first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
        result = {
            "kills": kills,
            "processes": options.processes,
            "steps": options.steps,
            "resumed_from": points,
            "records": len(one),
            "losses_equal": one == two,
            "tensors": len(first),
            "tensors_equal": equal,
        }
    print(json.dumps(result))
    return 0 if one == two and equal and kills == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
