"""Speed and memory of the embedded model: seconds per second of video and resident memory, stage by stage.

The packaged portrait speaks the packaged speech with the model's default settings. Every run is a separate process, so
that loading is measured and no run inherits memory from another; the first run only warms up the file cache.

    python benchmarks/embedded.py
    python benchmarks/embedded.py --model FOLDER --runs 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START = time.perf_counter()

# ruff: noqa: E402 - importing the library is measured as a stage
from benchmark_run import Quiet, Record, load_model, option_parser, say, table

from fantasytalking.pipeline.model_names import embedded_folder

LIMIT = 20.0
"""Seconds that the default settings may take for each second of video, on two cores."""
STAGES = ("importing", "loading", "reading", "encoding", "sampling", "decoding", "writing")


class Measured(Quiet):
    """Progress that times the stages and samples the resident memory in each.

    Attributes:
        memory: Largest resident memory seen in each stage, in bytes; empty where the system does not report it.
    """

    def __init__(self, interval: float = 0.02) -> None:
        super().__init__()
        self.memory: dict[str, int] = {}
        self._stage: str | None = None
        threading.Thread(target=self._watch, args=(interval,), daemon=True).start()

    @contextmanager
    def show_stage(self, name: str, total: int) -> Iterator[Any]:
        """Attribute the memory from now on to a stage."""
        self._stage = name
        self._sample(name)
        yield lambda: None
        self._sample(name)
        self._stage = None

    def _watch(self, interval: float) -> None:
        while True:
            stage = self._stage
            if stage is not None:
                self._sample(stage)
            time.sleep(interval)

    def _sample(self, stage: str) -> None:
        resident = resident_bytes()
        if resident:
            self.memory[stage] = max(self.memory.get(stage, 0), resident)


def resident_bytes() -> int:
    """Memory of this process that is in RAM now, in bytes; 0 where the system does not report it (no /proc)."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0


def peak_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage, whose peak includes the parent's memory from before exec on Linux.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def one_run(options: argparse.Namespace) -> dict[str, Any]:
    """Load, generate and write; called in a separate process."""
    progress = Measured()
    progress.seconds["importing"] = time.perf_counter() - START
    with progress.stage("loading"):
        pipeline = load_model(options)
    example = embedded_folder() / "example"
    portrait = options.portrait or Path(str(example / "portrait.png"))
    speech = options.speech or Path(str(example / "speech.wav"))
    settings = pipeline.settings(seed=options.seed)
    video = pipeline(portrait, speech, settings, progress=progress)
    with tempfile.TemporaryDirectory() as folder, progress.stage("writing"):
        video.save(Path(folder) / "video.mp4")
    return {
        "seconds": progress.seconds,
        "memory": progress.memory,
        "peak": peak_bytes(),
        "wall": time.perf_counter() - START,
        "video": video.summary(),
    }


def spawn(arguments: list[str]) -> dict[str, Any]:
    """Run `one_run` with the same arguments in a fresh process."""
    command = [sys.executable, __file__, *arguments, "--one-run"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"A run failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over runs, by stage and in total; the total does not include importing and loading."""
    duration = runs[0]["video"]["duration"]
    stages = {}
    for stage in STAGES:
        seconds = statistics.median(run["seconds"].get(stage, 0.0) for run in runs)
        memory = [run["memory"][stage] for run in runs if stage in run["memory"]]
        stages[stage] = {
            "seconds": seconds,
            "seconds_per_second": seconds / duration,
            "memory_mb": statistics.median(memory) / 1e6 if memory else None,
        }
    generating = [sum(v for k, v in run["seconds"].items() if k not in ("importing", "loading")) for run in runs]
    rates = [seconds / duration for seconds in generating]
    whole = statistics.median(run["wall"] for run in runs) / duration
    return {
        "video_seconds": duration,
        "size": [runs[0]["video"]["width"], runs[0]["video"]["height"]],
        "stages": stages,
        "seconds_per_second": statistics.median(rates),
        "seconds_per_second_of_runs": rates,
        "seconds_per_second_with_loading": whole,
        "peak_memory_mb": statistics.median(run["peak"] for run in runs) / 1e6,
        "allowed_seconds_per_second": LIMIT,
        "within_limit": statistics.median(rates) <= LIMIT,
    }


def report(result: dict[str, Any]) -> None:
    """Print the table of stages."""
    rows = []
    for stage, values in result["stages"].items():
        memory = "-" if values["memory_mb"] is None else f"{values['memory_mb']:.0f}"
        rows.append((stage, values["seconds"], values["seconds_per_second"], memory))
    total = result["seconds_per_second"]
    peak = f"{result['peak_memory_mb']:.0f}"
    rows.append(("all except importing and loading", total * result["video_seconds"], total, peak))
    rows.append(
        (
            "everything",
            result["seconds_per_second_with_loading"] * result["video_seconds"],
            result["seconds_per_second_with_loading"],
            peak,
        )
    )
    width, height = result["size"]
    print(f"\n{result['video_seconds']:.2f} s of video, {width} x {height}, medians\n")
    print(table(("stage", "seconds", "seconds per second of video", "peak memory, MB"), rows))
    print(
        f"\nallowed: {LIMIT:g} seconds per second; {'within' if result['within_limit'] else 'NOT within'} the limit\n"
    )


def main() -> int:
    """Warm up, run and report; the exit status is 1 if the limit is exceeded."""
    parser = option_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="measured runs, after one for warm-up")
    parser.add_argument("--portrait", type=Path, help="portrait to use instead of the packaged one")
    parser.add_argument("--speech", type=Path, help="speech to use instead of the packaged one")
    parser.add_argument("--one-run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_run:
        print(json.dumps(one_run(options)))
        return 0
    count = min(options.runs, options.limit or options.runs)
    record = Record("embedded", options, {})
    runs = []
    for index in range(count + 1):
        run = spawn(sys.argv[1:])
        say(f"run {index} of {count}{' (warm-up)' if index == 0 else ''}: {run['wall']:.1f} s")
        runs.append(run)
    result = summarise(runs[1:])
    report(result)
    made = runs[-1]["video"]
    record.settings = {k: v for k, v in made["settings"].items() if not k.endswith("prompt")}
    record.results = {"runs": count, "notes": made["notes"], **result}
    record.finish()
    return 0 if result["within_limit"] else 1


if __name__ == "__main__":
    sys.exit(main())
