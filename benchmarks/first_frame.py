"""How long after it is asked for does the first frame of a stream come, in a process whose model is loaded?

Each process loads the packaged model and makes one stream after the other of the packaged portrait and speech, at 512 x 512, written as
fragmented MP4 with all marks. Times are from the call to the first frame that was written, and to the first fragment, with which a
player begins. Seconds of computing, all threads together, are counted beside them, which other work on the machine hardly changes.

    python benchmarks/first_frame.py --processes 5
    python benchmarks/first_frame.py --cold            # without `warm_up`
    python benchmarks/first_frame.py --profile cumtime # what the first stream of this process spends its time on
"""

from __future__ import annotations

import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import Quiet, Record, option_parser, say, table
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.pipeline.load_pipeline import load_pipeline, use_threads
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
COLUMNS = {
    "frame": "first frame, s",
    "frame_computing": "computing, s",
    "fragment": "first fragment, s",
    "rate": "frames/s after that",
}
"""What is measured of a stream, and how the table calls it."""


def square_portrait(side: int) -> NDArray[Any]:
    """The packaged portrait, cropped to a square of so many pixels."""
    image = Image.open(EXAMPLE / "portrait.png").convert("RGB")
    left, least = (image.width - min(image.size)) // 2, min(image.size)
    cropped = image.crop((left, 0, left + least, least)).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(cropped)


def watch(pipeline: Any, options: Any) -> dict[str, float]:
    """Make one stream and time it."""
    portrait, sizes = square_portrait(options.side), list[float]()
    start, computed = time.perf_counter(), time.process_time()
    frames = pipeline.stream(
        portrait, EXAMPLE / "speech.wav", progress=Quiet(), longest_side=options.side, seed=options.seed
    )
    found: dict[str, float] = {}
    first = next(frames)
    with StreamWriter(
        lambda data: sizes.append(time.perf_counter() - start), first.fps, first.sample_rate, marks=first.marks
    ) as writer:
        writer.write(first.pixels, first.sound)
        found["frame"] = time.perf_counter() - start
        found["frame_computing"] = time.process_time() - computed
        count = 1
        for frame in frames:
            writer.write(frame.pixels, frame.sound)
            count += 1
        found["rate"] = (count - 1) / (time.perf_counter() - start - found["frame"])
    found["fragment"] = sizes[0]
    return found


def run_once(options: Any) -> dict[str, Any]:
    """Load the model and make the streams, in this process."""
    start, computed = time.perf_counter(), time.process_time()
    pipeline = load_pipeline(options.model)
    use_threads(pipeline, options.threads or None)
    loading = time.perf_counter() - start, time.process_time() - computed
    start, computed = time.perf_counter(), time.process_time()
    if not options.cold:
        pipeline.warm_up()
    warming = time.perf_counter() - start, time.process_time() - computed
    profile = cProfile.Profile() if options.profile else None
    if profile is not None:
        profile.enable()
    streams = [watch(pipeline, options)]
    if profile is not None:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats(options.profile).print_stats(60)
    streams += [watch(pipeline, options) for _ in range(options.streams - 1)]
    return {"loading": loading, "warming": warming, "streams": streams}


def rows_of(processes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A row for the first stream of a process and each later one: medians over the processes, with the largest of the times."""
    rows = []
    for number in range(len(processes[0]["streams"])):
        row = [f"stream {number + 1}"]
        for name in COLUMNS:
            values = [one["streams"][number][name] for one in processes]
            row.append(f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        rows.append(tuple(row))
    return rows


def main() -> int:
    """Measure in several processes, one after the other, and report."""
    parser = option_parser(__doc__)
    parser.set_defaults(threads=0)
    parser.add_argument("--processes", type=int, default=5, help="number of processes, one after the other")
    parser.add_argument("--streams", type=int, default=3, help="streams that each process makes")
    parser.add_argument("--side", type=int, default=512, help="side of the portrait, in pixels")
    parser.add_argument("--cold", action="store_true", help="leave the pipeline as it is after loading")
    parser.add_argument("--profile", help="profile the first stream of this process, sorted by tottime or cumtime")
    parser.add_argument("--alone", action="store_true", help="measure in this process and print its figures")
    options = parser.parse_args()
    if options.alone or options.profile:
        print(json.dumps(run_once(options)))
        return 0
    record = Record("first_frame", options, {})
    processes = []
    for number in range(options.processes):
        command = [sys.executable, str(Path(__file__)), "--alone", *sys.argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        processes.append(json.loads(done.stdout.splitlines()[-1]))
        say(f"process {number + 1}: {processes[-1]['streams'][0]['frame']:.2f} s")
    print(table(("", *COLUMNS.values()), rows_of(processes)))
    for name in ("loading", "warming"):
        print(f"{name}: {statistics.median(one[name][0] for one in processes):.2f} s")
    record.results = {"processes": processes}
    record.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
