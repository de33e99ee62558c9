"""How long after it was spoken is a frame of a live session of the service there, and how long until a browser shows it?

A client of `WS /v1/realtime` sends the packaged speech in real time, in chunks of several lengths, to a server that is started here.
The delay of a frame is the time from when its last sample was spoken, in the middle of a chunk that is sent later, to when the fragment
with the frame came; frames at which the person rests because speech was late move those behind them. Chromium measures the second
delay by the page's own live panel, which sends pieces of 40 ms: from when a moment was spoken to when it is shown.

    python benchmarks/realtime_delay.py                          # 256 and 512 pixels, chunks of 20, 100 and 500 ms
    python benchmarks/realtime_delay.py --sides 256 --no-browser
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import websockets
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from fantasytalking.media.audio import load_audio
from fantasytalking.pipeline.model_names import embedded_folder

EXAMPLE = embedded_folder() / "example"
RATE, FPS = 16000, 25


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server within the block; gives its address."""
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as log:
        command = [sys.executable, "-m", "fantasytalking.cli", "serve", "--port", "0", "--data", f"{folder}/data"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        try:
            while not (found := re.search(r"http://\S+?(?=/?\s)", Path(log.name).read_text())):
                time.sleep(0.1)
            yield found.group()
        finally:
            process.terminate()
            process.wait(60)


@dataclass
class Arrivals:
    """What came of one session.

    Attributes:
        frames: When a fragment came, in seconds from the first chunk, the frames that had come with it, and those of rest among them, as
            the server told last: once a second.
        told: The server's own figures of the whole session.
    """

    frames: list[tuple[float, int, int]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)

    def delays(self, chunk: float) -> NDArray[np.float64]:
        """Seconds from when the end of each frame was spoken to when it came; `chunk` seconds are spoken before they are sent."""
        found, before = [], 0
        for came, count, resting in self.frames:
            found += [came + chunk - (number + 1 - resting) / FPS for number in range(before, count)]
            before = count
        return np.asarray(found)


class FrameCounter:
    """Counts the video frames of fragmented MP4 that are there in full."""

    def __init__(self) -> None:
        self.frames = self._coming = 0
        self._data = b""

    def add(self, data: bytes) -> int:
        """Take more bytes; gives the frames that are there."""
        self._data += data
        while len(self._data) >= 8 and len(self._data) >= (size := int.from_bytes(self._data[:4])):
            box, self._data = self._data[:size], self._data[size:]
            if box[4:8] == b"moof":
                self._coming = sum(self._samples(part) for part in box.split(b"traf")[1:])
            elif box[4:8] == b"mdat":
                self.frames += self._coming
        return self.frames

    def _samples(self, track: bytes) -> int:
        """Samples of a track's runs, if it is the first track, the picture."""
        header = track.index(b"tfhd")
        if int.from_bytes(track[header + 8 : header + 12]) != 1:
            return 0
        return sum(int.from_bytes(run[4:8]) for run in track.split(b"trun")[1:])


async def converse(address: str, pcm: bytes, chunk: float, settings: dict[str, Any]) -> Arrivals:
    """One session whose speech is sent in real time."""
    found, size = Arrivals(), round(chunk * RATE) * 2
    image = base64.b64encode((EXAMPLE / "portrait.png").read_bytes()).decode()
    first = {"type": "session.start", "image_reference": image, "sample_rate": RATE, "settings": settings}
    async with websockets.connect(address.replace("http", "ws", 1) + "/v1/realtime", max_size=None) as socket:
        await socket.send(json.dumps(first))
        started = json.loads(await socket.recv())
        if started["type"] != "session.started":
            raise SystemExit(started["error"]["message"])
        begin = time.monotonic()

        async def speak() -> None:
            for at in range(0, len(pcm), size):
                # The first chunk is sent at 0; it was spoken before.
                await asyncio.sleep(max(0.0, at / 2 / RATE - (time.monotonic() - begin)))
                await socket.send(pcm[at : at + size])
            await socket.send(json.dumps({"type": "speech.finish"}))

        speaking, counter, resting = asyncio.create_task(speak()), FrameCounter(), 0
        async for message in socket:
            if isinstance(message, bytes):
                found.frames.append((time.monotonic() - begin, counter.add(message), resting))
                continue
            told = json.loads(message)
            resting = told.get("resting", resting)
            if told["type"] == "error":
                raise SystemExit(told["error"]["message"])
            found.told = told
        await speaking
    return found


def shown(address: str, settings: dict[str, Any], speech: Path) -> NDArray[np.float64]:
    """Delays that the page tells while Chromium plays a session, two a second."""
    found: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        page.locator("html[data-ready]").wait_for(state="attached")
        page.set_input_files("#portrait-file", EXAMPLE / "portrait.png")
        page.set_input_files(".speech-slot input[type=file]", speech)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for name, value in settings.items():
            page.fill(f"input[name={name}]", str(value))
            page.press(f"input[name={name}]", "Tab")
        page.locator("#live .choice", has_text="Chosen speech").click()
        page.click("#live-start")
        state = "starting"
        while state in ("starting", "sending", "finishing"):
            state, delay = page.locator("#live").evaluate("(live) => [live.dataset.state, live.dataset.shown]")
            if delay:
                found.append(float(delay))
            time.sleep(0.5)
        if state == "idle":
            raise SystemExit(page.locator("#live-error").inner_text())
        browser.close()
    return np.asarray(found)


def row(side: int, what: str, delays: NDArray[np.float64], more: str) -> str:
    """A row of the table."""
    if not len(delays):
        return f"| {side} | {what} | none | none | {more} |"
    median, worst = np.percentile(delays, [50, 99])
    return f"| {side} | {what} | {median:.2f} | {worst:.2f} | {more} |"


def main() -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512], help="longest sides in pixels")
    parser.add_argument("--chunks", type=int, nargs="*", default=[20, 100, 500], help="lengths of the chunks in ms")
    parser.add_argument("--no-browser", action="store_true", help="leave Chromium out")
    options = parser.parse_args()
    samples = load_audio(EXAMPLE / "speech.wav", RATE).samples
    pcm = (np.asarray(samples) * 32767).astype("<i2").tobytes()
    print(
        "| longest side | sent in | median, s | 99th percentile, s | the server says: median, 99th percentile, rests |"
    )
    print("|---|---|---|---|---|")
    with serving() as address:
        asyncio.run(converse(address, pcm[: RATE * 2], 0.1, {"longest_side": options.sides[0]}))  # loads the model
        for side in options.sides:
            for length in options.chunks:
                came = asyncio.run(converse(address, pcm, length / 1000, {"longest_side": side}))
                told = f"{came.told['median']:.2f}, {came.told['percentile_99']:.2f}, {came.frames[-1][2]}"
                print(row(side, f"chunks of {length} ms", came.delays(length / 1000), told), flush=True)
            if not options.no_browser:
                delays = shown(address, {"longest_side": side}, EXAMPLE / "speech.wav")
                print(row(side, "Chromium, until shown", delays, ""), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
