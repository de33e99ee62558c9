"""How much one client may send, and how slowly."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fantasytalking.serving.api.access import protect
from fantasytalking.serving.api.rate_limits import TokenBucket
from fantasytalking.serving.server_settings import ServerSettings
from tests.serving.live_server import exchange, running

OWN = "http://127.0.0.1:8000"
READ: list[int] = []
OVER = threading.Event()


def server(**settings: Any) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/session-like")
    @app.post("/v1/videos")
    async def made(request: Request) -> dict[str, int]:
        READ.append(0)
        async for chunk in request.stream():
            READ[-1] += len(chunk)
        return {"bytes": READ[-1]}

    @app.get("/healthz")
    @app.get("/v1/videos")
    async def listed() -> dict[str, str]:
        return {}

    @app.get("/v1/large")
    async def large() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 1_000_000

        return StreamingResponse(pieces())

    app.add_middleware(Noting)
    protect(app, ServerSettings(**settings))
    return app


class Noting:
    """Notes when the large answer is over, sent or given up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope.get("path") == "/v1/large":
                OVER.set()


def test_a_bucket_fills_again_with_time() -> None:
    now = 0.0
    bucket = TokenBucket(60, clock=lambda: now)
    assert all(bucket.take("anna") == 0 for _ in range(60))
    assert bucket.take("anna") == pytest.approx(1.0)
    assert bucket.take("ben") == 0
    now = 1.5
    assert bucket.take("anna") == 0 and bucket.take("anna") == pytest.approx(0.5)


def test_a_bucket_forgets_names_that_are_made_up() -> None:
    bucket = TokenBucket(60)
    for number in range(20_000):
        bucket.take(str(number))
    assert len(bucket._left) <= 10_000


def test_a_client_with_too_many_requests_is_told_when_to_come_again() -> None:
    with TestClient(server(requests_per_minute=5, uploads_per_minute=2), base_url=OWN) as http:
        answers = [http.post("/v1/videos", content=b"x") for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert (
            answers[-1].json()["error"]["code"] == "too_many_requests" and int(answers[-1].headers["retry-after"]) > 0
        )
        answers = [http.get("/v1/videos") for _ in range(5)]
        assert [one.status_code for one in answers] == [200, 200, 429, 429, 429]
        # another client, and the probes of whoever runs the server, go on
        assert http.get("/v1/videos", headers={"X-Client-ID": "ben"}).status_code == 200
        assert http.get("/healthz").status_code == 200
        # the page of the same client is there as often as it is visited, but nothing can be sent to it
        asked = ("/", "/static/js/main.js")  # which this application does not have
        assert {http.get(path).status_code for path in asked for _ in range(10)} == {404}
        assert http.post("/static/js/main.js").status_code == 429


def test_a_body_that_is_declared_too_large_is_not_read() -> None:
    READ.clear()
    with TestClient(server(), base_url=OWN) as http:
        for length in ("99999999999999", "-1", "x", "9" * 5000):
            answer = http.post("/v1/videos", headers={"Content-Length": length})
            assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
    assert READ == []


def test_a_body_without_a_length_ends_at_the_limit() -> None:
    READ.clear()
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 65536
            yield b"x" * 65536

    with TestClient(server(), base_url=OWN) as http:
        assert http.post("/v1/session-like", content=endless()).status_code == 413
    assert READ[-1] <= 1024 * 1024


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    settings: dict[str, Any] = {"idle_seconds": 1.0, "body_seconds": 2.0, "header_bytes": 4096}
    with running(server(**settings), ServerSettings(**settings)) as number:
        yield number


HEAD = b"POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"


def test_headers_that_never_end_close_the_connection(port: int) -> None:
    assert exchange(port, *(b"X: y\r\n" if number else HEAD for number in range(30)), pause=0.1) == b""
    assert exchange(port) == b""


def test_a_silent_sender_is_told_and_disconnected(port: int) -> None:
    answer = exchange(port, HEAD + b"\r\n" + b"x" * 10)
    assert answer.startswith(b"HTTP/1.1 408") and b'"too_slow"' in answer


def test_a_trickle_ends_with_the_time_of_the_body(port: int) -> None:
    assert exchange(port, HEAD + b"\r\n", *[b"x"] * 6, pause=0.3).startswith(b"HTTP/1.1 408")


def test_large_headers_are_refused(port: int) -> None:
    answer = exchange(port, b"GET /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 100_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_a_refused_sender_still_hears_why(port: int) -> None:
    head = b"POST /v1/videos HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
    answer = exchange(port, head, b"x" * 300_000)
    assert answer.startswith(b"HTTP/1.1 403")


def test_a_reader_that_does_not_read_is_disconnected(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(b"GET /v1/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        # nothing is read before the server has given up, however busy the machine is
        assert OVER.wait(60)
        read = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := line.recv(1 << 20):
                read += len(chunk)
    assert read < 50_000_000
