"""Does a clip take the main memory that `info --plan` says? A folder like the released one, generated with under every plan.

Writes a folder with the layout, the file formats and the proportions of the released model (random weights), generates a short clip with
the command line under each plan, each in a process of its own, and compares the process's private memory at its peak with what
`fantasytalking info --plan` expects. Pages of mapped files do not count, as the system can drop them. Linux only.

    python benchmarks/plan_peaks.py --stored bfloat16 --json peaks.json
    python benchmarks/plan_peaks.py --stored float32 --heads 8
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import torch
from benchmark_run import say
from released_like import write_released_like

from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.machine import machine

GIB = 2**30
WITHIN = 0.15
CLIP = ("--longest-side", "128", "--max-seconds", "0.3")
RUNS: dict[str, tuple[str, ...]] = {
    "high": ("--memory", "high"),
    "balanced": ("--memory", "balanced"),
    "low": ("--memory", "low"),
    "minimal": ("--memory", "minimal"),
    "high, fp8": ("--memory", "high", "--quantize", "fp8"),
    "minimal, fp8": ("--memory", "minimal", "--quantize", "fp8"),
}
_PRIVATE = re.compile(rb"^RssAnon:\s+(\d+) kB", re.MULTILINE)


@dataclass
class Peak:
    """Memory of one command.

    Attributes:
        run: Name of the plan, and what was given besides.
        dtype: Type that computes.
        expected_gib: What `info --plan` says.
        measured_gib: Private memory of the process at its peak.
        off: Measured over expected, minus 1.
        stages: Line that the command had printed last -> private memory at its peak until the next one, GiB.
        seconds: Of the whole command.
    """

    run: str
    dtype: str
    expected_gib: float
    measured_gib: float
    off: float
    stages: dict[str, float]
    seconds: float


def command(verb: str, folder: Path, *words: str) -> list[str]:
    """A command line of the package."""
    return [sys.executable, "-m", "fantasytalking.cli", verb, "--model", str(folder), *words]


def private_bytes(process: int) -> int:
    """Private memory of a process; 0 once it has ended."""
    try:
        found = _PRIVATE.search(Path(f"/proc/{process}/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def watch(words: list[str]) -> tuple[dict[str, int], float]:
    """Run a command; private memory at its peak after each line that it prints, and seconds.

    Raises:
        RuntimeError: The command failed.
    """
    begun, lines = time.perf_counter(), ["start"]

    def listen(stream: IO[str]) -> None:
        lines.extend(line.strip() for line in stream)

    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        listener = threading.Thread(target=listen, args=(process.stderr,))
        listener.start()
        peaks: dict[str, int] = {}
        while process.poll() is None:
            now, stage = private_bytes(process.pid), lines[-1]
            peaks[stage] = max(now, peaks.get(stage, 0))
            time.sleep(0.005)
        listener.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {lines[-1]}")
    return peaks, time.perf_counter() - begun


def measure(folder: Path, name: str, dtype: str, scratch: Path, clip: tuple[str, ...], steps: int) -> Peak:
    """Peak of one command beside the expected one."""
    given = (*RUNS[name], "--dtype", dtype, *clip)
    told = subprocess.run(
        command("info", folder, "--plan", "--json", *given), capture_output=True, check=True, text=True
    )
    expected = json.loads(told.stdout)["plan"]["host_gib"]
    example = embedded_folder() / "example"
    files = ("--image", str(example / "portrait.png"), "--audio", str(example / "speech.wav"))
    output = ("--output", str(scratch / "clip.mp4"), "--overwrite", "--steps", str(steps))
    peaks, seconds = watch(command("generate", folder, *given, *files, *output))
    measured, stages = max(peaks.values()) / GIB, {stage: round(peak / GIB, 3) for stage, peak in peaks.items()}
    return Peak(name, dtype, expected, round(measured, 2), round(measured / expected - 1, 3), stages, round(seconds, 1))


def table(peaks: list[Peak]) -> str:
    """The figures as Markdown."""
    lines = ["| plan | computes in | expected | measured | off |", "|---|---|---|---|---|"]
    lines += [
        f"| {peak.run} | {peak.dtype} | {peak.expected_gib:.2f} GiB | {peak.measured_gib:.2f} GiB | {peak.off:+.0%} |"
        for peak in peaks
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure and report; the exit status is 1 if a peak is further off than 15 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", choices=["bfloat16", "float32"], default="bfloat16", help="type in the files")
    parser.add_argument("--heads", type=int, default=11, help="heads of the transformer, of 128 channels each")
    parser.add_argument("--folder", type=Path, help="folder to write and keep, or one that this script has written")
    parser.add_argument("--dtype", nargs="*", default=["bfloat16"], help="types that compute")
    parser.add_argument("--runs", nargs="*", default=[*RUNS], choices=[*RUNS], help="plans")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps")
    parser.add_argument(
        "--clip", nargs="*", default=CLIP, help="options of the command line that say how large the clip is"
    )
    parser.add_argument("--json", type=Path, help="also write the record to this file")
    options = parser.parse_args()
    peaks: list[Peak] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "model"
        if not (folder / "model_index.json").exists():
            write_released_like(folder, options.heads, getattr(torch, options.stored))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        say(f"{size / 1e9:.2f} GB in {options.stored}")
        for dtype in options.dtype:
            for name in options.runs:
                peaks.append(measure(folder, name, dtype, Path(scratch), tuple(options.clip), options.steps))
                say(str(peaks[-1]))
    print(table(peaks))
    record = {
        "benchmark": "plan_peaks",
        "stored": options.stored,
        "heads": options.heads,
        "clip": list(options.clip),
        "files_gb": round(size / 1e9, 2),
        "machine": machine(),
        "peaks": [asdict(peak) for peak in peaks],
        "within_bound": all(abs(peak.off) <= WITHIN for peak in peaks),
    }
    text = json.dumps(record)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if record["within_bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
