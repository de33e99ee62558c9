"""Load on a server of this machine: many jobs of many clients, and `kill -9` of server and workers at random moments.

Each client sends its jobs without waiting for them, and comes back later where the server tells it to. At the end every accepted job must
have ended exactly once, with a video that decodes to its last frame.

    python benchmarks/serving_load.py --jobs 200 --clients 20
    python benchmarks/serving_load.py --jobs 200 --clients 20 --kills 20
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import httpx2
import psutil

from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Server:
    """The server, which may be killed and started again at the same address.

    Attributes:
        data: Its data folder.
        words: Options of its command.
        process: Its process.
        url: Its address.
    """

    data: Path
    words: list[str]
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    port: str = "0"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "fantasytalking.cli", "serve", "--data", str(self.data), "--port", self.port]
        path = self.data.with_suffix(".log")
        with path.open("ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen([*command, *self.words], stdout=log, stderr=log)
        while not (found := re.search(rb"Serving at (http://[^:]+:(\d+))/", path.read_bytes()[begin:])):
            assert self.process.poll() is None, path.read_text()
            time.sleep(0.05)
        self.url, self.port = found.group(1).decode(), found.group(2).decode()

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        assert self.process is not None
        return [
            one for one in psutil.Process(self.process.pid).children() if "worker_process" in " ".join(one.cmdline())
        ]

    def memory(self) -> tuple[float, float]:
        """Memory of server and of all workers in MiB, without what they share."""
        assert self.process is not None
        own = psutil.Process(self.process.pid).memory_full_info().uss
        return own / 2**20, sum(one.memory_full_info().uss for one in self.workers()) / 2**20


@dataclass
class Load:
    """What all clients together sent and were told.

    Attributes:
        accepted: Id of each accepted job -> its client.
        refused: Number of answers 429.
        broken: Number of requests that a kill cut off.
    """

    accepted: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    broken: int = 0


def send_all(
    server: Server, load: Load, client: str, count: int, fields: dict[str, str], settings: dict[str, str]
) -> None:
    """Send the jobs of one client; a key makes sure that one whose answer is lost is not made twice."""
    for number in range(count):
        headers = {"X-Client-ID": client, "Idempotency-Key": f"{client}-{number}"}
        while True:
            files = [(name, Path(path).read_bytes()) for name, path in fields.items()]
            try:
                sent = [(name, (name, data)) for name, data in files]
                answer = httpx2.post(f"{server.url}/v1/videos", files=sent, data=settings, headers=headers, timeout=120)
            except httpx2.HTTPError:
                load.broken += 1
                time.sleep(0.5)
                continue
            if answer.status_code == 202:
                load.accepted[answer.json()["id"]] = client
                break
            assert answer.status_code in (429, 503), answer.text
            load.refused += 1
            time.sleep(min(5.0, float(answer.headers.get("retry-after", "1"))))


def jobs_of(server: Server, client: str) -> list[dict[str, Any]]:
    """All jobs of a client."""
    found: list[dict[str, Any]] = []
    while True:
        after = {"after": found[-1]["id"]} if found else {}
        query = {"limit": "100", "order": "asc", **after}
        answer = httpx2.get(f"{server.url}/v1/videos", params=query, headers={"X-Client-ID": client}, timeout=60).json()
        found += answer["data"]
        if not answer["has_more"]:
            return found


def all_jobs(server: Server, clients: list[str]) -> list[dict[str, Any]]:
    """All jobs of all clients, once the server answers."""
    while True:
        try:
            return [job for client in clients for job in jobs_of(server, client)]
        except (httpx2.HTTPError, KeyError, ValueError):
            time.sleep(0.5)


def is_intact(server: Server, job: dict[str, Any], client: str) -> bool:
    """Whether a video decodes to the frames that its job names."""
    answer = httpx2.get(f"{server.url}/v1/videos/{job['id']}/content", headers={"X-Client-ID": client}, timeout=60)
    if answer.status_code != 200 or len(answer.content) != job["video"]["bytes"]:
        return False
    path = server.data / "checked.mp4"
    path.write_bytes(answer.content)
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        sound = sum(frame.samples for frame in container.decode(audio=0)) if container.streams.audio else 0
    return frames == job["video"]["frames"] and (sound > 0 or frames > 0)


def kill_one(server: Server, rng: random.Random) -> str:
    """Kill the server or one of its workers; the server is started again."""
    workers = server.workers()
    if workers and rng.random() < 0.5:
        rng.choice(workers).kill()
        return "worker"
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.start()
    return "server"


def main() -> None:
    """Run the load, print what came of it, and a record as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--within", type=float, default=3.0, help="seconds after a job ended in which a kill comes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--database", default="")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-load-", ignore_cleanup_errors=True) as folder:
        run(options, Path(folder))


def run(options: argparse.Namespace, folder: Path) -> None:
    """Start the server, send, kill, wait, report."""
    rng = random.Random(options.seed)
    words = ["--model", options.model, "--workers", str(options.workers), "--queued-jobs", "10000", "--tries", "20"]
    words += ["--queued-jobs-per-client", "10000", "--requests-per-minute", "100000", "--uploads-per-minute", "100000"]
    server = Server(folder / "data", [*words, *(["--database", options.database] if options.database else [])])
    server.start()
    clients, load = [f"client-{number:02}" for number in range(options.clients)], Load()
    files = {"image_reference": str(EXAMPLE / "portrait.png"), "audio_reference": str(EXAMPLE / "speech.wav")}
    settings = {"max_seconds": "0.2", "longest_side": "128", "steps": "1"}
    counts = [len(range(number, options.jobs, options.clients)) for number in range(options.clients)]
    senders = [
        threading.Thread(target=send_all, args=(server, load, client, count, files, settings), daemon=True)
        for client, count in zip(clients, counts, strict=True)
    ]
    began = time.monotonic()
    for sender in senders:
        sender.start()
    kills, memory = Counter[str](), []
    # A kill comes some jobs after the one before, whatever the speed of the machine.
    due = rng.randint(0, max(1, 2 * options.jobs // (options.kills + 2)))
    while True:
        jobs = all_jobs(server, clients)
        left = [job for job in jobs if job["status"] not in ENDED]
        ended = len(jobs) - len(left)
        if sum(kills.values()) < options.kills and ended >= due and left:
            time.sleep(rng.uniform(0, options.within))
            kills[kill_one(server, rng)] += 1
            still = options.kills - sum(kills.values())
            due = ended + rng.randint(0, max(1, 2 * (options.jobs - ended) // (still + 2)))
            continue
        if not any(sender.is_alive() for sender in senders) and not left:
            break
        if not memory or time.monotonic() - began - memory[-1][0] > 10:
            with contextlib.suppress(psutil.Error):
                memory.append((round(time.monotonic() - began), *(round(one) for one in server.memory())))
                done = f"{ended} of {options.jobs} ended"
                print(f"{memory[-1][0]} s: {done}, killed {dict(kills)}, memory {memory[-1][1:]} MiB", flush=True)
        time.sleep(0.5)
    report(server, load, jobs, kills, memory, time.monotonic() - began)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    server.process.wait()


def report(
    server: Server, load: Load, jobs: list[dict[str, Any]], kills: Counter[str], memory: list[Any], seconds: float
) -> None:
    """Print what came of it."""
    waits: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        waits[load.accepted.get(job["id"], "?")].append((job["started_at"] or job["completed_at"]) - job["created_at"])
    means = {client: statistics.mean(found) for client, found in waits.items()}
    statuses = Counter(job["status"] for job in jobs)
    completed = [job for job in jobs if job["status"] == "completed"]
    intact = sum(is_intact(server, job, load.accepted[job["id"]]) for job in completed)
    videos = [len(list((server.data / "jobs" / job["id"]).glob("video-*"))) for job in completed]
    record = {
        "jobs": len(jobs),
        "accepted": len(load.accepted),
        "lost": len(set(load.accepted) - {job["id"] for job in jobs}),
        "made twice": len(jobs) - len({job["id"] for job in jobs}) + len(jobs) - len(load.accepted),
        "statuses": dict(statuses),
        "intact": intact,
        "folders with one video": sum(count == 1 for count in videos),
        "kills": dict(kills),
        "most tries": max(job["tries"] for job in jobs),
        "requests cut off": load.broken,
        "refused": load.refused,
        "seconds": round(seconds, 1),
        "mean wait by client": {client: round(mean, 1) for client, mean in sorted(means.items())},
        "spread of mean waits": [round(min(means.values()), 1), round(max(means.values()), 1)],
        "memory MiB (seconds, server, workers)": memory,
    }
    print(json.dumps(record, indent=1))
    print(f"errors: {Counter(job['error']['code'] for job in jobs if job['error'])}", flush=True)


if __name__ == "__main__":
    main()
