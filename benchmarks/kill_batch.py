"""Resuming of `fantasytalking batch`: killed by SIGKILL at random moments and resumed until it finishes.

Each time the command and every process that it started are killed at once. After every kill, each video in its place must be complete
and the very file that it was before, so that no case is done twice; in the end there is one video for each case, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kill_preparation import end_after, run, start_logged

from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.json import read_json_lines

EXAMPLE = embedded_folder() / "example"


def videos(output: Path) -> dict[str, tuple[int, int]]:
    """Name -> identity of each video that is in its place, which another file of the same name would not have."""
    paths = [path for path in output.glob("*.mp4") if not path.name.startswith(".")]
    return {path.stem: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def begun(output: Path) -> int:
    """Number of times that a worker began a case, in all runs."""
    return sum(len(path.read_text().splitlines()) for path in (output / ".cases").glob("*.tries"))


def kill_within(words: Sequence[str], output: Path, cases: int, seconds: float, log: Path) -> bool:
    """Start a command, and kill it with all its children some time after it began so many cases; False if it had finished by then."""
    before = begun(output)
    process = start_logged(words, log)
    while begun(output) < before + cases and process.poll() is None:
        time.sleep(0.01)
    return end_after(process, seconds, log)


def main() -> None:
    """Kill and resume, print a line per kill, and the record as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--steps", default="1")
    parser.add_argument("--within", type=float, default=1.5, help="seconds after a case began in which a kill comes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output, log, manifest = folder / "out", folder / "log.txt", folder / "cases.jsonl"
        line = {"image": str(EXAMPLE / "portrait.png"), "audio": str(EXAMPLE / "speech.wav")}
        names = [f"case{number}" for number in range(options.cases)]
        manifest.write_text("".join(json.dumps({**line, "name": n, "seed": i}) + "\n" for i, n in enumerate(names)))
        words = [sys.executable, "-m", "fantasytalking.cli.__main__", "batch", str(manifest), "--output", str(output)]
        words += ["--model", options.model, "--steps", options.steps, "--max-seconds", "0.4", "--longest-side", "256"]
        words += ["--workers", str(options.workers)]
        before: dict[str, tuple[int, int]] = {}
        kills, repeated, began = 0, 0, time.monotonic()
        while kills < options.kills:
            if not kill_within(words, output, rng.randint(1, 4), rng.uniform(0, options.within), log):
                break
            kills += 1
            now = videos(output)
            repeated += sum(now.get(n) != identity for n, identity in before.items())
            for n in now:
                probe_video(output / f"{n}.mp4")
            print(f"kill {kills}: {len(now)} of {options.cases} videos, {repeated} done twice", flush=True)
            before = now
        run(words, log)
        now = videos(output)
        repeated += sum(now.get(n) != identity for n, identity in before.items())
        rows = read_json_lines(output / "report.jsonl")
        left = [path.name for path in output.rglob("*") if ".part" in path.name]
        print(
            json.dumps(
                {
                    "kills": kills,
                    "cases": options.cases,
                    "videos": len(now),
                    "missing": sorted(set(names) - set(now)),
                    "done_twice": repeated,
                    "failed": sum(row["status"] == "failed" for row in rows),
                    "left_behind": left,
                    "seconds": round(time.monotonic() - began),
                }
            )
        )


if __name__ == "__main__":
    main()
