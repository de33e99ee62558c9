"""The clients against a real server whose jobs this test ends itself, in place of a worker."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from anyio import to_thread

import fantasytalking
from fantasytalking import AsyncClient, Client, Verification, verify
from fantasytalking.cli.__main__ import main
from fantasytalking.errors import AudioError, FaceError, ImageError, InputError, ServerError, SettingsError, VideoError
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import Marks
from fantasytalking.serving.client_attempts import Retries
from fantasytalking.serving.client_events import EventLines
from fantasytalking.serving.client_protocol import server_address
from fantasytalking.serving.jobs.job_records import JobError, JobStatus
from tests.pipeline.tiny_pipeline import portrait
from tests.serving.hand_service import FILM, HandService
from tests.serving.live_server import running

TOKEN = "anna-has-a-long-token"
EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"
PORTRAIT, SPEECH = EXAMPLE / "portrait.png", EXAMPLE / "speech.wav"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandService]:
    made = HandService(tmp_path_factory.mktemp("service"), tokens={"anna": TOKEN})
    made.hand.start()
    yield made
    made.hand.stop(0)
    made.store.close()


@pytest.fixture(scope="module")
def address(service: HandService) -> Iterator[str]:
    with running(service.app, service.settings) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(address: str, service: HandService) -> Iterator[Client]:
    service.hand.error = None
    with Client(address, TOKEN, retries=1) as made:
        yield made


def test_a_video_comes_back_whole(client: Client, tmp_path: Path) -> None:
    seen: list[str] = []
    made = client.generate(PORTRAIT, SPEECH, tmp_path / "a.mp4", on_update=lambda job: seen.append(job.status), seed=7)
    assert (tmp_path / "a.mp4").read_bytes() == FILM and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert made.settings["seed"] == 7 and made.notes == ["A note."] and made.video is not None
    assert seen[-1] == "completed" and "in_progress" in seen


def test_a_job_can_be_found_cancelled_and_deleted(client: Client) -> None:
    sent = client.submit(PORTRAIT.read_bytes(), SPEECH, max_seconds=0.5)
    assert client.get(sent.id).id == sent.id and sent.id in [job.id for job in client.list(limit=100)]
    assert client.cancel(sent.id).status == "cancelled"
    with pytest.raises(ServerError, match="was cancelled"):
        client.wait(sent.id)
    client.delete(sent.id)
    with pytest.raises(ServerError, match="no such video"):
        client.get(sent.id)
    assert client.limits()["speakers"] == 8 and client.models()[0]["id"] == "embedded"


def test_an_idempotency_key_makes_one_job(client: Client) -> None:
    first = client.submit(PORTRAIT, SPEECH, idempotency_key="once", max_seconds=0.5)
    assert client.submit(PORTRAIT, SPEECH, idempotency_key="once", max_seconds=0.5).id == first.id
    with pytest.raises(SettingsError, match="Idempotency-Key"):
        client.submit(PORTRAIT, SPEECH, idempotency_key="once", max_seconds=0.6)


def test_errors_are_those_of_the_library(client: Client, service: HandService, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean 'steps'"):
        client.submit(PORTRAIT, SPEECH, stebs=3)
    with pytest.raises(ImageError, match="does not exist"):
        client.submit(tmp_path / "none.png", SPEECH)
    with pytest.raises(InputError, match="no file of a known kind"):
        client.submit(b"not a picture", SPEECH)
    with pytest.raises(AudioError):
        client.submit(PORTRAIT, b"RIFF\0\0\0\0WAVE")
    with pytest.raises(SettingsError, match="one of them"):
        client.submit(None, SPEECH)
    service.hand.error = JobError("face_error", "No face was found.")
    with pytest.raises(FaceError, match="No face was found"):
        client.generate(PORTRAIT, SPEECH, tmp_path / "a.mp4", max_seconds=0.5)
    assert not list(tmp_path.iterdir())


def test_who_is_not_known_is_told(address: str) -> None:
    with Client(address, "wrong-token-altogether") as other, pytest.raises(ServerError, match="does not know this one"):
        other.list()


def test_a_server_that_is_not_there_is_told() -> None:
    with (
        Client("http://127.0.0.1:9", retries=0) as other,
        pytest.raises(ServerError, match=r"does not answer \(ConnectError\)"),
    ):
        other.list()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]
    return write_video(tmp_path_factory.mktemp("marked") / "video.mp4", frames, 25, marks=Marks(identifier=7))


def test_a_video_is_verified_on_a_server(
    client: Client, address: str, marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = client.verify(marked)
    assert found == verify(marked) and found.is_marked

    async def run() -> Verification:
        async with AsyncClient(address, TOKEN) as other:
            return await other.verify(marked.read_bytes())

    assert asyncio.run(run()) == replace(found, path=None)
    with pytest.raises(InputError, match="which is no video"):
        client.verify(PORTRAIT)
    with pytest.raises(VideoError, match="does not exist"):
        client.verify(tmp_path / "none.mp4")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    words = ["verify", str(marked), "--server", address, "--token-file", str(token)]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.summary()))
    assert main([*words, "--trust", str(token)]) == 2
    assert "--trust is the server's own choice; leave it out with --server." in capsys.readouterr().err
    assert main(["verify", str(marked), "--token-file", str(token)]) == 2
    assert "--token-file was given without --server" in capsys.readouterr().err


def test_faces_are_found(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        client.faces(tmp_path / "none.png")
    found = client.faces(PORTRAIT)
    assert found["width"] == 512 and len(found["faces"]) == 1


def test_the_async_client_does_the_same(address: str, service: HandService, tmp_path: Path) -> None:
    service.hand.error = None

    async def run() -> Any:
        async with AsyncClient(address, TOKEN) as client:
            job = await client.generate(PORTRAIT, SPEECH, tmp_path / "a.mp4", max_seconds=0.5)
            names = [event.name async for event in client.events(job.id)]
            with pytest.raises(SettingsError, match="did you mean"):
                await client.submit(PORTRAIT, SPEECH, stebs=3)
            await client.delete(job.id)
            return job, names, await client.list(status="queued")

    job, names, queued = asyncio.run(run())
    assert (tmp_path / "a.mp4").read_bytes() == FILM and job.status == JobStatus.COMPLETED
    assert names == ["end"] and queued == []


def test_generate_runs_on_a_server(
    address: str, service: HandService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.hand.error = None
    token = tmp_path / "token"
    token.write_text(f"anna={TOKEN}\n")
    words = ["--server", address, "--token-file", str(token), "--image", str(PORTRAIT), "--audio", str(SPEECH)]
    assert main(["generate", *words, "--output", str(tmp_path / "a.mp4"), "--max-seconds", "0.5"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(tmp_path / "a.mp4") and "A note." in shown.err
    assert (tmp_path / "a.mp4").read_bytes() == FILM
    assert main(["generate", *words, "--output", str(tmp_path / "b.mp4"), "--device", "cpu"]) == 2
    assert "--device is the server's own choice; leave it out with --server." in capsys.readouterr().err
    assert main(["generate", *words[2:], "--output", str(tmp_path / "b.mp4")]) == 2
    assert "--token-file was given without --server" in capsys.readouterr().err


def test_a_batch_runs_on_a_server(
    address: str, service: HandService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.hand.error = None
    token = tmp_path / "token"
    token.write_text(TOKEN)
    lines = [{"image": str(PORTRAIT), "audio": str(SPEECH), "name": name, "max_seconds": 0.5} for name in ("a", "b")]
    lines.append({"image": str(SPEECH), "audio": str(SPEECH), "name": "c"})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["batch", str(manifest), "--server", address, "--token-file", str(token), "--output", str(tmp_path / "out")]
    assert main(words) == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "done", "failed"] and "known kind" not in rows[0]
    assert (tmp_path / "out" / "a.mp4").read_bytes() == FILM
    # again: what is made is kept
    assert main(words) == 2
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["kept", "kept", "failed"]
    capsys.readouterr()


def test_a_broken_download_goes_on_where_it_was(tmp_path: Path) -> None:
    asked: list[str | None] = []

    class Torn(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield FILM[:1000]
            raise httpx2.ReadError("torn")

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("range"))
        if len(asked) == 1:
            return httpx2.Response(200, headers={"etag": '"x"'}, stream=Torn())
        assert request.headers["if-range"] == '"x"'
        return httpx2.Response(206, headers={"etag": '"x"'}, content=FILM[1000:])

    with Client(transport=httpx2.MockTransport(answer)) as client:
        client.download("video_1", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == FILM and asked == [None, "bytes=1000-"]


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    answers = iter(
        [
            httpx2.Response(429, headers={"retry-after": "1"}),
            httpx2.Response(503),
            httpx2.Response(200, json={"data": []}),
        ]
    )
    with Client(transport=httpx2.MockTransport(lambda request: next(answers))) as client:
        assert client.list() == []
    retries = Retries("http://there", most=2, patience=10.0)
    busy = httpx2.Response(429, headers={"retry-after": "8"})
    assert retries.pause(busy) == 8.0
    for refusal in (busy, httpx2.Response(422)):
        with pytest.raises(ServerError, match=f"answers {refusal.status_code}"):
            retries.pause(refusal)


def test_a_download_and_events_wait_for_a_busy_server_too(tmp_path: Path) -> None:
    event = b'event: end\ndata: {"id": "video_1", "status": "completed"}\n\n'
    whole = {"content": httpx2.Response(200, content=FILM), "events": httpx2.Response(200, content=event)}
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2]
        asked.append(name)
        return httpx2.Response(503) if asked.count(name) == 1 else whole[name]

    with Client(transport=httpx2.MockTransport(answer)) as client:
        assert client.wait("video_1").status == "completed"
        client.download("video_1", tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == FILM and asked == ["events", "events", "content", "content"]


def test_events_are_read_line_by_line() -> None:
    lines = EventLines()
    given = ["retry: 2000", "", ": still here", "", "event: end", 'data: {"id": 1,', 'data: "status": "completed"}', ""]
    events = [event for line in given if (event := lines.push(line)) is not None]
    assert [event.name for event in events] == ["end"] and events[0].data == {"id": 1, "status": "completed"}


def test_an_address_is_checked() -> None:
    assert server_address("https://talk.example/api/") == "https://talk.example/api"
    for bad in ("127.0.0.1:8000", "ftp://a", "http://", "http://a:0", "http://a:x", "http://a?b"):
        with pytest.raises(SettingsError, match="A server is an address such as"):
            server_address(bad)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no sitecustomize that stops a process")
def test_uploads_that_take_long_hold_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that decodes hangs until its time is over, and the server has threads for two requests."""
    service = HandService(tmp_path / "data", check_seconds=1.0, checks_at_once=1)
    (tmp_path / "sitecustomize.py").write_text("import os, time\nos.nice = lambda _: time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(fantasytalking.__file__).parents[1]}")
    ended: list[str] = []

    async def ask(http: httpx2.AsyncClient, what: str) -> None:
        if what == "list":
            await asyncio.sleep(0.3)
            assert (await http.get("/v1/videos")).status_code == 200
        else:
            files = {
                name: ("x", path.read_bytes())
                for name, path in (("image_reference", PORTRAIT), ("audio_reference", SPEECH))
            }
            assert (await http.post("/v1/videos", files=files)).status_code == 422
        ended.append(what)

    async def run() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 2
        transport = httpx2.ASGITransport(service.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60) as http:
            await asyncio.gather(*(ask(http, what) for what in ("upload", "upload", "upload", "list")))

    asyncio.run(run())
    service.store.close()
    assert ended == ["list", "upload", "upload", "upload"]
