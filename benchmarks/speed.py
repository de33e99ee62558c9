"""How fast are our profiles and memory plans beside the released sampling loop and diffusers' pipeline, and how far apart are the results?

Each cell (a model, a size, and a loop, profile or plan) is measured once and written to a file, so that a run that ended or was killed is
completed by the next one. A run ends by itself after `--minutes`, with exit status 3 where cells are left. docs/performance.md explains the
table.

    python benchmarks/speed.py --models embedded wide --model FOLDER --student embedded --output outputs/speed
    python benchmarks/speed.py --models 14b --output outputs/bench-gpu
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fantasytalking.system.startup import importing_frameworks

with importing_frameworks():
    from benchmark_run import plain, say
    from speed_cells import Cell, Session, Shape, cells_of, session_of
    from speed_loading import Job
    from speed_quality import measure_quality
    from speed_report import drawing, tables, target_lines

    import fantasytalking
    from fantasytalking.system.files import atomic_path
    from fantasytalking.system.json import read_json_object, write_json
    from fantasytalking.system.machine import choose_device, git_commit, machine

PACKAGE = Path(fantasytalking.__file__).parent
WORKER = Path(__file__).with_name("speed_worker.py")
SHAPES: dict[str, tuple[Shape, ...]] = {
    "embedded": (Shape(512, 73, 12), Shape(512, 25, 12), Shape(512, 73, 24)),
    "wide": (Shape(128, 33, 30), Shape(128, 33, 12), Shape(256, 33, 12), Shape(128, 81, 12)),
    "14b": (Shape(512, 81, 30),),
    "tiny": (Shape(64, 9, 10),),
}
"""Model -> shapes in which all profiles are run; the first is that of the passes without speech and of the plans, too."""
PLANS_AT = {"14b": Shape(512, 81, 4), "tiny": Shape(64, 9, 4)}
"""Model -> shape of the plans where it is another: few steps are enough to see what they cost."""
LEFT = 3
"""Exit status where cells are left for another run."""
LEAST = 20.0
"""Seconds below which no process is started."""


def expected_cells(models: Iterable[str], steps: int | None = None, count: int | None = None) -> list[Cell]:
    """All cells of some models, in the order of their measurement.

    Args:
        models: Keys of `SHAPES`.
        steps: Denoising steps in place of those of the shapes for profiles.
        count: Number of shapes of each model; None: all.
    """
    cells = []
    for model in models:
        shapes = [shape if steps is None else replace(shape, steps=steps) for shape in SHAPES[model][:count]]
        cells += cells_of(model, dict.fromkeys(shapes), PLANS_AT.get(model))
    return cells


def result_of(output: Path, cell: Cell) -> dict[str, Any]:
    """What is known of a cell; empty where it is not measured yet."""
    return read_json_object(output / "cells" / f"{cell.key}.json")


def pending(output: Path, cells: Iterable[Cell]) -> list[Cell]:
    """The cells that are not measured yet."""
    return [cell for cell in cells if not result_of(output, cell)]


def sessions(cells: Iterable[Cell], compiles: bool) -> dict[Session, list[Cell]]:
    """Cells by the process that measures them; of a session, those of the first shape come first."""
    found: dict[Session, list[Cell]] = {}
    for cell in cells:
        found.setdefault(session_of(cell, compiles), []).append(cell)
    return found


def run_session(job: Job, limit: float) -> int | None:
    """Measure the cells of a job in a process of its own, and return its exit status; None where it was killed after some seconds."""
    file = job.output / "work" / "job.json"
    job.write(file)
    try:
        return subprocess.run([sys.executable, "-W", "ignore", str(WORKER), str(file)], timeout=limit).returncode
    except subprocess.TimeoutExpired:
        return None


def measure(cells: list[Cell], options: argparse.Namespace, begun: float) -> None:
    """Measure what is not measured yet, until the time is over."""
    compiles, deadline = choose_device(options.device).type == "cuda", begun + 60 * options.minutes
    for number, (session, group) in enumerate(sessions(pending(options.output, cells), compiles).items()):
        if deadline - time.time() < LEAST:
            return
        is_embedded = session.model == "embedded"
        job = Job(
            cells=tuple(group),
            session=session,
            model=options.model if is_embedded else session.model,
            student=options.student if is_embedded else None,
            output=options.output,
            device=options.device,
            rounds=options.rounds,
            threads=options.threads,
            deadline=deadline,
            is_first=number == 0,
        )
        # What loads or computes cannot be asked to end, so there is a hard limit a little later.
        status = run_session(job, deadline + options.grace - time.time())
        left = pending(options.output, group)
        if left and (status or (status is None and number == 0)):
            # A process that died, of too little main memory say, would die again, and one that had all the time will not have more.
            reason = "it took longer than a whole run" if status is None else f"its process ended with {status}"
            say(f"{left[0].key}: {reason}")
            write_json(options.output / "cells" / f"{left[0].key}.json", {"failed": reason})


def write_report(cells: list[Cell], options: argparse.Namespace, begun: float) -> dict[str, Any]:
    """Write report.json, report.md and speed.svg from what is measured so far."""
    found = {cell: result for cell in cells if (result := result_of(options.output, cell))}
    earlier = read_json_object(options.output / "report.json")
    runs = [
        *earlier.get("runs", []),
        {"date": datetime.now(UTC).isoformat(timespec="seconds"), "minutes": (time.time() - begun) / 60},
    ]
    record = {
        "benchmark": "speed",
        "command": shlex.join(["python", *sys.argv]),
        "runs": runs,
        "machine": machine(),
        "commit": git_commit(PACKAGE),
        "complete": len(found) == len(cells),
        "missing": [cell.key for cell in cells if cell not in found],
        "targets": target_lines(found),
        "quality": read_json_object(options.output / "quality.json"),
        "cells": {cell.key: result for cell, result in found.items()},
    }
    write_json(options.output / "report.json", plain(record), indent=1)
    for name, text in (("report.md", tables(found, record)), ("speed.svg", drawing(found))):
        with atomic_path(options.output / name, overwrite=True) as temporary:
            temporary.write_text(text, "utf-8")
    return record


def option_parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(SHAPES),
        default=["14b"],
        help="what is measured; all but embedded have random weights",
    )
    parser.add_argument(
        "--model", default="embedded", help="folder of the model that is called embedded here, such as its teacher"
    )
    parser.add_argument(
        "--student", help="few-step model for the profile turbo of it; none: the model itself, in few steps"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/speed"), help="folder of the results, which a later run completes"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--steps", type=int, help="denoising steps of the profiles, in place of the usual ones")
    parser.add_argument("--shapes", type=int, help="number of sizes and lengths of each model; nothing: all")
    parser.add_argument("--minutes", type=float, default=9.0, help="time after which a run ends by itself")
    parser.add_argument(
        "--grace", type=float, default=40.0, help="seconds after it until a process is killed that does not end"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="runs of each cell of the first size, of which the fastest counts"
    )
    parser.add_argument(
        "--threads", type=int, help="CPU threads; nothing: as the command line of the project chooses them"
    )
    parser.add_argument("--limit", type=int, help="measure at most so many cells, for a quick try")
    return parser


def main() -> int:
    """Measure what is left and report; the exit status is 3 where cells are left for another run."""
    options, begun = option_parser().parse_args(), time.time()
    options.output = options.output.resolve()
    for folder in ("cells", "work"):
        (options.output / folder).mkdir(parents=True, exist_ok=True)
    cells = expected_cells(options.models, options.steps, options.shapes)[: options.limit]
    measure(cells, options, begun)
    left = pending(options.output, cells)
    if not left and "embedded" in options.models and not (options.output / "quality.json").exists():
        measure_quality([cell for cell in cells if cell.model == "embedded"], options.output)
    record = write_report(cells, options, begun)
    for written in (
        [] if left else [*(options.output / "work").glob("model-*"), *(options.output / "work").glob("lora-*")]
    ):
        shutil.rmtree(written) if written.is_dir() else written.unlink()
    print(tables({cell: result_of(options.output, cell) for cell in cells if cell not in left}, record))
    say(f"{len(cells) - len(left)} of {len(cells)} cells are measured; the report is {options.output / 'report.md'}")
    if left:
        say("Run the same command again: it goes on where this run has stopped.")
    return LEFT if left else 0


if __name__ == "__main__":
    sys.exit(main())
