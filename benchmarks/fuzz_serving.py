"""Sends a real server what nobody should send, and looks whether it stands.

    python benchmarks/fuzz_serving.py --uploads 500 --requests 40 --output outputs/fuzz-serving

* `--uploads` uploads: broken, truncated and mutated files, bombs, polyglots, playlists, contents of links, names that are paths, huge
  headers, forms that are none, JSON, and slow senders, all by raw connections, four at a time.
* `--requests` requests of each kind for each operation of the OpenAPI document, by schemathesis, in this process.

It fails where there is an answer of 500 and above, a connection that is answered later than the limits allow, a server that died, a file
outside the data folder, or memory that grows. `report.json` has the figures.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fantasytalking
from tests.serving.uploads.attacks import AUDIO, IMAGES, VIDEOS, picture, wav

EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"
CHECK_SECONDS, IDLE_SECONDS, BODY_SECONDS = 15, 3, 8
# a file is checked behind others, of which a request may hold nine
LONGEST_ANSWER = 8 * (CHECK_SECONDS + 20) + BODY_SECONDS
NAMES = (
    "../../../../tmp/owned", "/etc/cron.d/owned", "..\\..\\owned.exe", "C:\\owned", "nul\x00.png", "a" * 3000, "", ".", "..", "con",
    "%2e%2e%2fowned", "file:///etc/passwd", "|touch owned", "$(touch owned)", "-rf", "x\r\nX-Evil: 1", "\u202egnp.exe", "😀" * 200,
)  # fmt: skip
MOST_GROWTH = 200 * 2**20


class Server:
    """A server in folders of its own, and what it takes."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"
        self.port = _free_port()
        self.peaks: Counter[str] = Counter()
        self.series: list[int] = []
        self._done = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """Run it within the block."""
        for name in ("home", "tmp", "cwd"):
            (self.root / name).mkdir()
        settings = {
            "port": self.port, "data": self.data, "check-seconds": CHECK_SECONDS, "idle-seconds": IDLE_SECONDS,
            "body-seconds": BODY_SECONDS, "requests-per-minute": 1_000_000, "uploads-per-minute": 1_000_000, "speech-seconds": 60,
            "footage-seconds": 60, "image-bytes": 2**22, "audio-bytes": 2**23, "video-bytes": 2**23, "log-format": "json",
            "queued-jobs-per-client": 1000, "queued-jobs": 1000, "disk-free-bytes": 0,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        environment = {
            **os.environ,
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment["PYTHONPATH"] = str(Path(fantasytalking.__file__).parents[1])
        with (self.root / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fantasytalking.cli", "serve", *words],
                env=environment,
                cwd=self.root / "cwd",
                stderr=log,
            )
        self.process = psutil.Process(process.pid)
        try:
            _wait_for(self.port)
            threading.Thread(target=self._watch, daemon=True).start()
            yield self
        finally:
            self._done.set()
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            with contextlib.suppress(psutil.Error):
                own = self.process.memory_info().rss
                self.series.append(own)
                self.peaks["server"] = max(self.peaks["server"], own)
                for child in self.process.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        kind = "check" if "checking_process" in " ".join(child.cmdline()) else "worker"
                        self.peaks[kind] = max(self.peaks[kind], child.memory_info().rss)

    def strays(self) -> list[str]:
        """Files outside the data folder that were not there before."""
        found = [path for name in ("home", "tmp", "cwd") for path in (self.root / name).rglob("*")]
        found += [path for path in (Path("/tmp/owned"), Path("/etc/cron.d/owned")) if path.exists()]
        names = {"data", "home", "tmp", "cwd", "log", "secret"}
        return [str(path) for path in [*found, *(one for one in self.root.iterdir() if one.name not in names)]]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as line:
        port: int = line.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(240):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.25)
    raise SystemExit("The server does not start.")


def seeds() -> dict[str, list[bytes]]:
    """Good files, to be damaged."""
    sound = [wav(0.4), (EXAMPLE / "speech.wav").read_bytes()[:30_000]]
    for form in ("flac", "ogg", "mp3", "mp4", "matroska"):
        # a build of FFmpeg may be without some encoders
        with contextlib.suppress(ValueError):
            sound.append(encoded(form))
    # the first two have a face, so that a request that is not refused for its picture goes all the way
    with Image.open(EXAMPLE / "portrait.png") as portrait:
        pictures = [saved(portrait, "JPEG"), saved(portrait, "WEBP")]
    pictures += [picture(form) for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")]
    return {"image": pictures, "audio": sound}


def saved(image: Image.Image, form: str) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    image.convert("RGB").save(out, format=form)
    return out.getvalue()


def encoded(form: str) -> bytes:
    """A short tone in another container."""
    codec = {"flac": "flac", "ogg": "libopus", "mp3": "libmp3lame", "mp4": "aac", "matroska": "flac"}[form]
    out = io.BytesIO()
    with av.open(out, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=16000)
        stream.layout = "mono"
        samples = (8000 * np.sin(np.arange(8000) * 0.1)).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        resampler = av.AudioResampler(stream.codec_context.format or "s16", "mono", 16000)
        for piece in resampler.resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return out.getvalue()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A file with one kind of damage."""
    data = bytearray(content)
    how = draw.randrange(7)
    if how == 0:
        return bytes(data[: draw.randrange(1, len(data))])
    if how == 1:
        for _ in range(draw.choice((1, 8, 64, 512))):
            data[draw.randrange(len(data))] = draw.randrange(256)
    elif how == 2:
        place = draw.randrange(min(64, len(data) - 4))
        data[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f"))
    elif how == 3:
        place = draw.randrange(len(data))
        data[place:place] = draw.randbytes(draw.choice((1, 100, 5000)))
    elif how == 4:
        data += draw.choice(
            (
                b"PK\x03\x04" + bytes(50),
                b"<script>alert(1)</script>",
                b"#EXTM3U\nfile:///etc/passwd\n",
                draw.randbytes(9000),
            )
        )
    elif how == 5:
        place = draw.randrange(len(data))
        data += data[place : place + 4000] * draw.choice((2, 50))
    else:
        data[draw.randrange(len(data)) :] = bytes(draw.choice((10, 100_000)))
    return bytes(data)


def form(parts: list[tuple[str, str | None, bytes]], boundary: str = "line", headers: bytes = b"") -> bytes:
    """A multipart body, with whatever names."""
    body = b""
    for name, file, content in parts:
        naming = "" if file is None else f'; filename="{file}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{naming}\r\n'
        body += head.encode("utf-8", "surrogatepass") + headers + b"\r\n" + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def request(
    body: bytes, kind: str = "multipart/form-data; boundary=line", path: str = "/v1/videos", more: str = ""
) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n{more}\r\n"
    return head.encode("latin-1", "replace") + body


def make_case(number: int, secret: Path, good: dict[str, list[bytes]]) -> tuple[str, list[bytes], float]:
    """A kind of attack, the pieces to send, and the pause between them in seconds."""
    draw = random.Random(number)
    image, audio = good["image"][0], good["audio"][0]
    kind = draw.choices(
        ("table", "mutated", "names", "form", "json", "headers", "slow", "faces"), weights=(25, 40, 8, 8, 6, 4, 4, 5)
    )[0]
    fields: list[tuple[str, str | None, bytes]] = [("max_seconds", None, b"0.3"), ("steps", None, b"1")]
    if kind == "table":
        table = draw.choice((IMAGES, AUDIO, VIDEOS))(secret)
        name = draw.choice(list(table))
        bad = table[name]()
        if len(bad) > 2**23:
            bad = bad[: 2**23]
        files = {
            IMAGES: [("image_reference", bad), ("audio_reference", audio)],
            AUDIO: [("image_reference", image), ("audio_reference", bad)],
        }
        chosen = files[IMAGES] if bad and table.keys() == IMAGES(secret).keys() else files[AUDIO]
        if "wav" in table and "truncated png" not in table:
            chosen = [("video_reference", bad), ("audio_reference", audio)]
        return kind, [request(form([*((field, "a", content) for field, content in chosen), *fields]))], 0.0
    if kind == "mutated":
        field = draw.choice(("image", "audio"))
        bad = mutated(draw.choice(good[field]), draw)
        chosen = [("image_reference", bad), ("audio_reference", audio)]
        if field == "audio":
            chosen = [(draw.choice(("image_reference", "video_reference")), image), ("audio_reference", bad)]
        return kind, [request(form([*((name, "a", content) for name, content in chosen), *fields]))], 0.0
    if kind == "names":
        file, field = draw.choice(NAMES), draw.choice(("image_reference", "audio_reference", draw.choice(NAMES)))
        return (
            kind,
            [request(form([(field, file, image), ("audio_reference", draw.choice(NAMES), audio), *fields]))],
            0.0,
        )
    if kind == "form":
        bodies = (
            b"", b"--line--\r\n", draw.randbytes(5000), form([("x", None, b"y")] * 5000), form([("image_reference", "a", image)] * 50),
            form([("image_reference", "a", image)], headers=b"X: " + b"y" * 100_000 + b"\r\n"), form([])[:-4], b"--line\r\n" * 9000,
            form([("prompt", None, b"p" * 900_000)]), form([("image_reference", None, image)]),
            form([("image_reference", "a", bytes(2**22 + 5))]),
        )  # fmt: skip
        kinds = (
            "multipart/form-data; boundary=line",
            "multipart/form-data",
            "multipart/form-data; boundary=" + "x" * 500,
            "text/plain",
        )
        return kind, [request(draw.choice(bodies), draw.choice(kinds))], 0.0
    if kind == "json":
        data = base64.b64encode(image).decode()
        values: tuple[Any, ...] = (
            {"image_reference": data, "audio_reference": "data:audio/wav;base64,===="}, {"image_reference": "file:///etc/passwd"}, [], None,
            {"image_reference": "http://169.254.169.254/latest", "audio_reference": data}, {"image_reference": [data] * 50},
            {"seed": 10**400},
            {"image_reference": {"data": data}, "audio_reference": {"path": "/etc/passwd"}}, {"prompt": "\ud800", "image_reference": data},
            {"image_reference": data, "audio_reference": base64.b64encode(audio).decode(), "prompt": "\ud800", "max_seconds": 0.3},
            {"image_reference": data, "audio_reference": base64.b64encode(audio).decode(), "prompt": "\x00", "max_seconds": 0.3},
        )  # fmt: skip
        texts = (
            json.dumps(draw.choice(values)),
            "[" * 100_000,
            "{" + '"a":' * 50_000,
            "1" * 10_000,
            '{"seed": NaN}',
            "\ufeff{}",
        )
        text = texts[0] if draw.random() < 0.6 else draw.choice(texts[1:])
        return kind, [request(text.encode(), "application/json")], 0.0
    if kind == "headers":
        fields_of = "\r\n".join(f"X{n}: y" for n in range(5000))
        usual = ("Transfer-Encoding: chunked", "Host: evil.example", "X-Client-ID: ../../x\x01", "Expect: 100-continue")
        more = draw.choice(("X: " + "y" * 500_000, fields_of, "Idempotency-Key: " + "k" * 5000, *usual))
        return kind, [request(form([("image_reference", "a", image)]), more=more + "\r\n")], 0.0
    if kind == "slow":
        whole = request(form([("image_reference", "a", image), ("audio_reference", "b", audio)]))
        step = draw.choice((1, 40, 400))
        return kind, [whole[start : start + step] for start in range(0, len(whole), step)], draw.choice((0.5, 5.0))
    bad = mutated(draw.choice(good["image"]), draw)
    return kind, [request(form([("image_reference", "a", bad)]), path="/v1/faces")], 0.0


def send(port: int, pieces: list[bytes], pause: float) -> tuple[int, float, bytes]:
    """Status (0: closed without an answer, -1: no end within the limit), seconds, and the answer."""
    begin, answer = time.monotonic(), b""
    try:
        with socket.create_connection(("127.0.0.1", port), LONGEST_ANSWER) as line:
            with contextlib.suppress(OSError):
                for piece in pieces:
                    line.sendall(piece)
                    if pause:
                        line.settimeout(pause)
                        with contextlib.suppress(TimeoutError):
                            answer += line.recv(65536)
                            break
                        line.settimeout(LONGEST_ANSWER)
            line.settimeout(LONGEST_ANSWER)
            with contextlib.suppress(ConnectionError):
                while chunk := line.recv(65536):
                    answer += chunk
    except TimeoutError:
        return -1, time.monotonic() - begin, answer
    except OSError:
        pass
    status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
    return status, time.monotonic() - begin, answer


def fuzz_uploads(server: Server, first: int, count: int) -> dict[str, Any]:
    """Send the uploads; gives the figures."""
    secret = server.root / "secret"
    secret.write_bytes(wav(2.0))
    good = seeds()
    statuses: dict[str, Counter[str]] = {}
    faults: list[str] = []
    slowest = 0.0

    def one(number: int) -> None:
        nonlocal slowest
        kind, pieces, pause = make_case(number, secret, good)
        status, seconds, answer = send(server.port, pieces, pause)
        statuses.setdefault(kind, Counter())[str(status)] += 1
        slowest = max(slowest, seconds)
        if status >= 500 or status == -1:
            faults.append(f"case {number} ({kind}): {status}, {answer[-300:]!r}")
        if str(server.root).encode() in answer:
            faults.append(f"case {number} ({kind}) tells a path: {answer[-300:]!r}")
        if status == 202:
            job = json.loads(answer.rpartition(b"\r\n\r\n")[2])["id"]
            gone = f"DELETE /v1/videos/{job} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            if send(server.port, [gone], 0.0)[0] != 200:
                faults.append(f"case {number}: its job cannot be deleted")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(first, first + count)))
    ready = send(server.port, [b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"], 0.0)[0]
    if ready != 200:
        faults.append(f"the server is not ready after it all ({ready})")
    left = [path.name for path in (server.data / "jobs").iterdir()]
    faults += [f"a folder of a job is left: {name}" for name in left]
    faults += [f"a file outside the data folder: {name}" for name in server.strays()]
    third = max(1, len(server.series) // 3)
    growth = max(server.series[-third:], default=0) - max(server.series[:third], default=0)
    if growth > MOST_GROWTH:
        faults.append(f"the server's memory grew by {growth / 2**20:.0f} MiB")
    return {
        "uploads": count,
        "statuses": {kind: dict(sorted(found.items())) for kind, found in sorted(statuses.items())},
        "slowest_seconds": round(slowest, 1),
        "peak_mib": {kind: round(size / 2**20) for kind, size in server.peaks.items()},
        "growth_mib": round(growth / 2**20),
        "faults": faults,
    }


def fuzz_requests(folder: Path, examples: int) -> dict[str, Any]:
    """Call every operation of the document; gives the figures."""
    from tests.serving.hand_service import HandService
    from tests.serving.openapi_cases import faults_of

    service = HandService(folder, uploads_per_minute=1_000_000, hosts=("*",))
    begin = time.monotonic()
    faults, count = faults_of(service.app, examples, start=2)
    service.store.close()
    return {"requests": count, "seconds": round(time.monotonic() - begin, 1), "faults": faults}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first upload, which is its seed")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("outputs/fuzz-serving"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.uploads:
            root = Path(folder) / "server"
            root.mkdir()
            with Server(root).running() as server:
                report["uploads"] = fuzz_uploads(server, options.first, options.uploads)
            lines = (root / "log").read_text().splitlines()
            (options.output / "server.log").write_text("\n".join(lines))
        if options.requests:
            (Path(folder) / "requests").mkdir()
            report["requests"] = fuzz_requests(Path(folder) / "requests", options.requests)
    (options.output / "report.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report, indent=2))
    return 2 if any(part["faults"] for part in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
