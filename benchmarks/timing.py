"""How long a user waits: `fantasytalking generate` timed from outside, alone and several at once, beside another version.

Each run is a process of its own, on two cores or on one, whose stages are read from what it tells on stderr. Two versions of the
project take turns, run by run, and ratios are of neighbouring runs. The first round only warms up the file cache.

    python benchmarks/timing.py
    python benchmarks/timing.py --base ../another-checkout --runs 5 --json timing.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark_run import Record, option_parser, say, table

HERE = Path(__file__).resolve().parents[1]
STAGES = ("reading", "encoding", "sampling", "decoding", "writing")
FIRST_STEP = "shell to first step, s"
WHOLE = "reading to written file"
CPU = "CPU, whole command, s"
GOALS = {("2 cores", FIRST_STEP): 4.0, ("2 cores", WHOLE): 0.5, ("1 core", WHOLE): 0.8}
"""What is asked for: (mode, row) -> at most so much. Rows without a unit are seconds per second of video."""


@dataclass(frozen=True)
class Mode:
    """A way to run the command.

    Attributes:
        name: As in the table.
        cores: Number of cores that it may use.
        environment: Variables that are set; none of those that set a number of threads is inherited.
    """

    name: str
    cores: int
    environment: Mapping[str, str]


MODES = (Mode("2 cores", 2, {}), Mode("1 core", 1, {"OMP_NUM_THREADS": "1"}))


def start(tree: Path, mode: Mode, output: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the command of a source tree."""
    example = HERE / "src" / "fantasytalking" / "models" / "embedded" / "example"
    command = [sys.executable, "-m", "fantasytalking.cli", "generate", "--json", "--model", options.model]
    command += ["--image", str(options.portrait or example / "portrait.png")]
    command += ["--audio", str(options.speech or example / "speech.wav")]
    command += ["--output", str(output), "--seed", str(options.seed)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "KMP_"))}
    environment = {**inherited, **mode.environment, "PYTHONPATH": str(tree / "src")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=output.parent
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[: mode.cores])
    return process


def one_run(tree: Path, mode: Mode, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run the command alone: row of the table -> figure."""
    output = folder / "alone.mp4"
    output.unlink(missing_ok=True)
    begun, ended = time.perf_counter(), {}
    process = start(tree, mode, output, options)
    assert process.stderr is not None and process.stdout is not None
    for line in process.stderr:
        if ": done in " in line:
            ended[line.partition(":")[0]] = time.perf_counter() - begun
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"The command of '{tree}' failed with {process.returncode}.")
    return figures(json.loads(told.splitlines()[-1]), ended, used.ru_utime + used.ru_stime)


def figures(told: Mapping[str, Any], ended: Mapping[str, float], cpu: float) -> dict[str, float]:
    """Rows of one run.

    Args:
        told: The JSON object that the command printed.
        ended: Stage -> when it ended, in seconds since the command was started. The model is loaded after the inputs are read, which does
            not count; versions that read afterwards are counted in the same way.
        cpu: CPU seconds of the whole command.

    Returns:
        Row -> seconds, or seconds per second of video.
    """
    rows = {FIRST_STEP: ended["encoding"]}
    rows |= {stage: told["seconds"].get(stage, 0.0) / told["duration"] for stage in STAGES}
    loaded = max(ended["loading"], ended.get("reading", 0.0))
    rows[WHOLE] = rows["reading"] + (ended["writing"] - loaded) / told["duration"]
    rows[CPU] = cpu
    return rows


def several(tree: Path, count: int, at_once: bool, folder: Path, options: argparse.Namespace) -> float:
    """Seconds that several commands take, at once or one after another, on two cores."""
    outputs = [folder / f"{index}.mp4" for index in range(count)]
    for output in outputs:
        output.unlink(missing_ok=True)
    begun = time.perf_counter()
    groups = [outputs] if at_once else [[output] for output in outputs]
    for group in groups:
        running = [start(tree, MODES[0], output, options) for output in group]
        for process in running:
            process.communicate()
            if process.returncode != 0:
                raise SystemExit(f"The command of '{tree}' failed with {process.returncode}.")
    return time.perf_counter() - begun


def compared(base: Iterable[float] | None, this: Iterable[float]) -> tuple[float | None, float, float | None]:
    """Medians of both versions, and the median of the ratios of neighbouring runs (this over base)."""
    mine = list(this)
    if base is None:
        return None, statistics.median(mine), None
    other = list(base)
    return statistics.median(other), statistics.median(mine), statistics.median(map(_ratio, mine, other))


def _ratio(mine: float, other: float) -> float:
    return mine / other if other else float("nan")


def measure(trees: Mapping[str, Path], options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All rows of the table: mode, row, median of the base, of this version, ratio, goal, single figures."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for index, mode in itertools.product(range(options.runs + 1), MODES):
        for name, tree in trees.items():
            run = one_run(tree, mode, folder, options)
            for row, value in run.items() if index else ():
                found.setdefault((mode.name, row, name), []).append(value)
            shown = ", ".join(f"{row} {run[row]:.2f}" for row in (FIRST_STEP, WHOLE, CPU))
            say(f"round {index} of {options.runs}, {mode.name}, {name}{' (warm-up)' if index == 0 else ''}: {shown}")
    for index in range(options.crowds if options.at_once > 1 else 0):
        for name, tree in trees.items():
            apart = several(tree, options.at_once, False, folder, options)
            together = several(tree, options.at_once, True, folder, options)
            crowd = f"{options.at_once} commands"
            figures_of = {
                "one after another, s": apart,
                "at once, s": together,
                "at once / after another": together / apart,
            }
            for row, value in figures_of.items():
                found.setdefault((crowd, row, name), []).append(value)
            say(f"crowd {index + 1} of {options.crowds}, {name}: {apart:.1f} s after another, {together:.1f} s at once")
    rows = []
    for mode_name, row in dict.fromkeys((mode, row) for mode, row, _ in found):
        runs = {name: found[mode_name, row, name] for name in trees}
        base, this, ratio = compared(runs.get("base"), runs["this"])
        goal = 1.0 if row.startswith("at once /") else GOALS.get((mode_name, row))
        rows.append(
            {"mode": mode_name, "row": row, "base": base, "this": this, "ratio": ratio, "goal": goal, "runs": runs}
        )
    return rows


def main() -> int:
    """Measure and report; the exit status is 1 where a goal is missed."""
    parser = option_parser(__doc__)
    parser.add_argument("--base", type=Path, help="checkout of another version to compare with")
    parser.add_argument("--runs", type=int, default=5, help="measured rounds, after one for warm-up")
    parser.add_argument("--at-once", type=int, default=4, help="number of commands at once; 0 leaves this part out")
    parser.add_argument("--crowds", type=int, default=1, help="how often they are run at once and one after another")
    parser.add_argument("--portrait", type=Path, help="portrait to use instead of the packaged one")
    parser.add_argument("--speech", type=Path, help="speech to use instead of the packaged one")
    options = parser.parse_args()
    options.runs = min(options.runs, options.limit or options.runs)
    for path in ("portrait", "speech", "base"):
        if getattr(options, path) is not None:
            setattr(options, path, getattr(options, path).resolve())
    trees = {**({"base": options.base} if options.base else {}), "this": HERE}
    record = Record("timing", options, {})
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(trees, options, Path(folder))
    header = ("mode", "seconds per second of video, where no unit is given", "base", "this", "this / base", "goal")
    print(table(header, [[row[key] for key in ("mode", "row", "base", "this", "ratio", "goal")] for row in rows]))
    record.results = {"rows": rows}
    record.finish()
    return 1 if any(row["goal"] is not None and row["this"] > row["goal"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
