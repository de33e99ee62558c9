"""Kills training runs with SIGKILL at random points and compares what comes out with runs that nobody disturbed.

Every recipe is killed in each of its phases (tracks, codec, pairs, painter and so on, as noted in ``phases.jsonl``),
at a random point of the phase, and the same run is started again after each kill until it is done. Then every file of the run folder
(weights, averages and optimiser state of the checkpoints, measurements, exported models) must have the same content, no other file
may be left over, and the losses of the logs (the last record of each step) must be equal. Prints one JSON line.

    python benchmarks/kill_training.py --kills 20
    python benchmarks/kill_training.py --kills 3 --recipes tiny lip-sync
    python benchmarks/kill_training.py --kills 20 --processes 2     # the transformer's steps alone, with FSDP2
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
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from phase_kills import ended, losses, measure, start  # noqa: E402
from toy_runs import RUNS, make_material  # noqa: E402

from fantasytalking.training.trainer.run_folder import RunFolder  # noqa: E402
from fantasytalking.training.trainer.stored_checkpoint import Stored  # noqa: E402


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


def state(run: Path) -> dict[str, torch.Tensor]:
    """Everything that the newest checkpoint holds."""
    latest = RunFolder(run).latest()
    assert latest is not None
    with Stored(latest) as stored:
        return {key: stored.whole(key) for key in stored.places}


def kill_steps(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill the steps of a transformer that several processes train together."""
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
    return {
        "kills": kills,
        "processes": options.processes,
        "steps": options.steps,
        "resumed_from": points,
        "records": len(one),
        "losses_equal": one == two,
        "tensors": len(first),
        "equal": equal and one == two and kills == options.kills,
    }


def kill_phases(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Kill every phase of the recipes."""
    log = folder / "material.log"
    ended(start(lambda: make_material(folder / "material"), log), True, log)
    rows = []
    for name in options.recipes:
        began = time.monotonic()
        row = measure(name, RUNS[name], folder / "material", folder / name, options.kills, options.seed)
        rows.append(row | {"minutes": round((time.monotonic() - began) / 60, 1)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often, in each phase")
    parser.add_argument(
        "--recipes", nargs="+", choices=list(RUNS), default=list(RUNS), help="which recipes; by default all"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="processes that train together; with several, only steps are killed"
    )
    parser.add_argument(
        "--steps", type=int, default=600, help="steps of a run of several processes; it must last for all kills"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random points")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; by default a temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.processes > 1:
            result = kill_steps(options, folder)
        else:
            rows = kill_phases(options, folder)
            result = {"kills": options.kills, "recipes": rows, "equal": all(row["equal"] for row in rows)}
    print(json.dumps(result))
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
