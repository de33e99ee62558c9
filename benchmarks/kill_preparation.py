"""Resuming of `fantasytalking prepare`: killed by SIGKILL at random moments and resumed until it finishes, against an undisturbed run.

Each time the command and every process that it started are killed at once. The shards and the list of clips must have the same checksums
as those of an undisturbed run, and no shard that was finished before a kill may be made again after it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from fantasytalking.media.audio import Audio, load_audio
from fantasytalking.media.image import load_image
from fantasytalking.media.video import write_video
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.json import read_json_lines, write_json

EXAMPLE = embedded_folder() / "example"
# the mouths of these videos do not move, so their sync is not checked
TOY_OPTIONS = ("--sync", "off", "--body-every", "1", "--face-every", "1")


def make_toys(folder: Path, count: int, seconds: float) -> Path:
    """Write videos of the example portrait, swaying by a few pixels, with parts of the example speech; and some with faults.

    The faults: a file that is no video, sound that ends before the picture, and a picture that stands still for a while.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        sound = load_audio(EXAMPLE / "speech.wav", start=0.3 * number, seconds=seconds)
        write_video(folder / f"{number}.mp4", swaying(rng, round(seconds * 25)), 25, sound, preset="ultrafast")
    (folder / "broken.mp4").write_bytes(b"no video")
    sound = load_audio(EXAMPLE / "speech.wav", seconds=seconds + 3.0)
    write_short_sound(folder / "short-sound.mkv", swaying(rng, round((seconds + 3.0) * 25)), sound, seconds)
    frames = swaying(rng, round((seconds + 3.0) * 25))
    frames[: round(2.0 * 25)] = frames[0]
    write_video(folder / "frozen.mp4", frames, 25, sound, preset="ultrafast")
    return folder


def swaying(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Frames [F, 224, 224, 3] of the example portrait, each moved by a pixel or two from the one before."""
    portrait = cv2.resize(load_image(EXAMPLE / "portrait.png")[:320, 64:384], (224, 224), interpolation=cv2.INTER_AREA)
    steps = np.cumsum(rng.choice((-2, -1, 1, 2), count))
    return np.stack([np.roll(portrait, int(step), 1) for step in steps])


def write_short_sound(path: Path, frames: NDArray[np.uint8], sound: Audio, seconds: float) -> None:
    """Write a video whose sound track ends before its picture, which `write_video` would continue with silence."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        track = container.add_stream("pcm_s16le", rate=sound.sample_rate, layout="mono")
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        whole = (sound.samples[: round(seconds * sound.sample_rate)] * 32767).astype(np.int16)
        heard = av.AudioFrame.from_ndarray(whole[None], "s16", "mono")
        heard.sample_rate, heard.pts = sound.sample_rate, 0
        container.mux([*track.encode(heard), *track.encode()])


def command(videos: Sequence[Path], output: Path, workers: int, options: Sequence[str]) -> list[str]:
    """Command line that prepares the videos."""
    words = [sys.executable, "-m", "fantasytalking.cli.__main__", "prepare", *map(str, videos)]
    return [*words, "--output", str(output), "--workers", str(workers), *options]


def run(words: Sequence[str], log: Path) -> float:
    """Run a command to its end and return its seconds."""
    started = time.monotonic()
    with open(log, "ab") as file:
        # a session of its own, as in the runs that are killed: systems share CPU time among sessions
        done = subprocess.run(words, stdout=file, stderr=file, start_new_session=True)
    if done.returncode:
        raise SystemExit(f"The command failed with {done.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return time.monotonic() - started


def kill_after(words: Sequence[str], seconds: float, log: Path) -> bool:
    """Start a command, and kill it with all its children after some time; False if it had finished by then."""
    return end_after(start_logged(words, log), seconds, log)


def start_logged(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, with what it prints added to a file."""
    with open(log, "ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)


def end_after(process: subprocess.Popen[bytes], seconds: float, log: Path) -> bool:
    """Kill a command of `start_logged` with all its children after some time; False if it had finished by then."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for member in family:
            try:
                member.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        process.wait()
        psutil.wait_procs(family, timeout=30)
        return True
    if process.returncode:
        raise SystemExit(f"The command failed with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return False


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each shard and of the list of clips, by name."""
    paths = [*sorted((folder / "shards").glob("*.tar")), folder / "clips.jsonl"]
    return {path.name: file_sha256(path) for path in paths}


def outcome(folder: Path) -> dict[str, int]:
    """Number of candidates that were kept, and of those that were left out by reason."""
    return dict(Counter(row["reason"] or "kept" for row in read_json_lines(folder / "clips.jsonl")))


def finished_shards(folder: Path) -> dict[str, int]:
    """Modification time of the record of each finished shard."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "work" / "shards").glob("[!.]*.json")}


def main() -> None:
    """Measure, print a line per kill, and the record as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path, help="videos to prepare; none means toy videos")
    parser.add_argument("--kills", type=int, default=20, help="how often to kill")
    parser.add_argument("--workers", type=int, default=2, help="workers of the run that is killed; 0 works without Ray")
    parser.add_argument(
        "--compare", type=int, nargs="*", default=[], help="numbers of workers for further undisturbed runs"
    )
    parser.add_argument("--toys", type=int, default=4, help="number of toy videos")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--json", type=Path, help="also write the record to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        record = measure(options, Path(scratch))
    if options.json is not None:
        write_json(options.json, record, indent=1)
    print(json.dumps(record))
    if not record["same"] or record["made_again"]:
        raise SystemExit(1)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run the whole measurement in a scratch folder."""
    videos, given = options.videos, ["--clips-per-shard", "1"]
    if not videos:
        videos, given = [make_toys(scratch / "videos", options.toys, 2.1)], [*given, *TOY_OPTIONS]
    log = scratch / "log"
    whole = run(command(videos, scratch / "whole", options.workers, given), log)
    wanted = checksums(scratch / "whole")
    print(f"undisturbed: {whole:.1f} s, {len(wanted) - 1} shards", file=sys.stderr, flush=True)
    others = {}
    for workers in options.compare:
        seconds = run(command(videos, scratch / f"with-{workers}", workers, given), log)
        others[workers] = {"seconds": round(seconds, 1), "same": checksums(scratch / f"with-{workers}") == wanted}
        print(f"{workers} workers: {others[workers]}", file=sys.stderr, flush=True)
    rng, kills, sets, made_again, same = random.Random(options.seed), [], 0, 0, True
    while len(kills) < options.kills:
        output, sets = scratch / f"killed-{sets}", sets + 1
        words, before = command(videos, output, options.workers, given), {}
        while len(kills) < options.kills:
            moment = rng.uniform(0.0, whole)
            if not kill_after(words, moment, log):
                break
            after = finished_shards(output)
            made_again += sum(after.get(name) != stamp for name, stamp in before.items())
            before = after
            kills.append({"set": sets, "seconds": round(moment, 2), "shards_finished": len(after)})
            print(f"kill {len(kills)}: {kills[-1]}", file=sys.stderr, flush=True)
        run(words, log)
        after = finished_shards(output)
        made_again += sum(after.get(name) != stamp for name, stamp in before.items())
        same = same and checksums(output) == wanted
    return {
        "benchmark": "kill_preparation",
        "workers": options.workers,
        "shards": len(wanted) - 1,
        "outcome": outcome(scratch / "whole"),
        "undisturbed_seconds": round(whole, 1),
        "kills": kills,
        "sets": sets,
        "made_again": made_again,
        "same": same and all(other["same"] for other in others.values()),
        "other_workers": others,
    }


if __name__ == "__main__":
    main()
