"""A server as people start it: the command, in a process of its own, with its workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
from PIL import Image

from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from tests.pipeline.tiny_pipeline import embedded_pipeline, portrait, speech

ENDED = ("completed", "failed", "cancelled")


class ServiceProcess:
    """A server that can be killed and started again on the same data.

    Args:
        folder: Of the data and the log.
        options: Options of the command.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.data, self.log = folder / "data", folder / "log.txt"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start the command, and wait until it listens."""
        source = Path(__file__).resolve().parents[2] / "src"
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "fantasytalking.cli", "serve", "--port", "0", "--data", str(self.data)]
        with self.log.open("ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log, env=environment)
        while not (found := re.search(r"Serving at (http://\S+)/", self.log.read_bytes()[begin:].decode())):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        self.url = found.group(1)

    def kill(self) -> None:
        """`kill -9` of the server alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it in order; gives the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    @property
    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [one for one in children if any("worker_process" in word for word in _words(one))]

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request."""
        return httpx2.request(method, self.url + path, timeout=120, **options)

    def send(self, files: Files, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        """`POST /v1/videos` as a form."""
        sent = [(name, (path.name, path.read_bytes())) for name, path in files]
        return self.call("POST", "/v1/videos", files=sent, data=fields, headers=headers)

    def make(self, files: Files, headers: dict[str, str] | None = None, **fields: Any) -> str:
        """The id of an accepted job."""
        answer = self.send(files, headers, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, video: str, **headers: str) -> dict[str, Any]:
        """A job."""
        answer = self.call("GET", f"/v1/videos/{video}", headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(
        self, video: str, until: Callable[[dict[str, Any]], bool] = lambda job: job["status"] in ENDED
    ) -> dict[str, Any]:
        """A job once it ended, or is as wanted."""
        while not until(job := self.job(video)):
            assert job["status"] not in ENDED, job
            time.sleep(0.05)
        return job

    def events(self, video: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Events of a job, until the server ends the stream."""
        with httpx2.stream("GET", f"{self.url}/v1/videos/{video}/events", timeout=60) as answer:
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


Files = list[tuple[str, Path]]


def write_inputs(folder: Path) -> dict[str, Path]:
    """A tiny model whose clips hold 33 frames, portraits of one and of two people, speech of 0.5 and of 6 seconds, footage."""
    embedded_pipeline(max_frames=33, long_video="continue").save_pretrained(folder / "tiny")
    Image.fromarray(portrait(160)).save(folder / "face.png")
    two = Image.new("RGB", (400, 200))
    for number, side in enumerate((200, 192)):
        two.paste(Image.fromarray(portrait(side)), (200 * number, 0))
    two.save(folder / "two.png")
    files = {"model": folder / "tiny", "face": folder / "face.png", "two": folder / "two.png"}
    for name, seconds in (("short", 0.5), ("long", 6.0)):
        files[name] = folder / f"{name}.mp4"
        sound: Audio = speech(seconds)
        write_video(files[name], [portrait(64)] * round(25 * seconds), 25, sound)
    files["footage"] = folder / "footage.mp4"
    write_video(files["footage"], [portrait(160)] * 20, 25, speech(0.8))
    return files


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
