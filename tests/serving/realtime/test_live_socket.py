"""Speech through the WebSocket of the application to frames, with the embedded model in a process of its own."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from fantasytalking.media.audio import load_audio
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.server_settings import read_server_settings
from tests.serving.no_workers import NoWorkers

EXAMPLE = embedded_folder() / "example"
RATE = 16000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("data")
    (data / "uploads").mkdir()
    app = create_app(read_server_settings(given={"data": data}), NoWorkers())
    with TestClient(app, headers={"host": "127.0.0.1"}) as client:
        yield client


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """1.2 s of the example speech."""
    sound = load_audio(EXAMPLE / "speech.wav", from_picture=False)
    samples = np.asarray(sound.samples, np.float32).reshape(-1)[: round(1.2 * sound.sample_rate)]
    assert sound.sample_rate == RATE
    return bytes((samples * 32767).astype("<i2").tobytes())


def begin(socket: WebSocketTestSession, **message: Any) -> None:
    portrait = base64.b64encode((EXAMPLE / "portrait.png").read_bytes()).decode()
    settings = {"longest_side": 128, "steps": 4}
    first = {"type": "session.start", "image_reference": portrait, "sample_rate": RATE, "settings": settings}
    socket.send_text(json.dumps({**first, **message}))


def rest(socket: WebSocketTestSession) -> tuple[list[dict[str, Any]], bytes, int]:
    """Messages, video and the code of the end."""
    told: list[dict[str, Any]] = []
    video = b""
    while True:
        message = socket.receive()
        if message["type"] == "websocket.close":
            return told, video, message["code"]
        if message.get("bytes") is not None:
            video += message["bytes"]
        else:
            told.append(json.loads(message["text"]))


@pytest.mark.slow
def test_speech_in_chunks_becomes_a_growing_video_and_the_process_serves_the_next_session(
    client: TestClient, pcm: bytes
) -> None:
    seconds = len(pcm) / 2 / RATE
    for waits in (False, True):
        with client.websocket_connect("/v1/realtime") as socket:
            begin(socket)
            heard = [json.loads(socket.receive_text())] if waits else []
            for at in range(0, len(pcm), 3200):
                socket.send_bytes(pcm[at : at + 3200])
            socket.send_text(json.dumps({"type": "speech.finish"}))
            # A microphone may give one chunk more; it is dropped.
            socket.send_bytes(pcm[:3200])
            told, video, code = rest(socket)
            told = heard + told
        kinds = [one["type"] for one in told if one["type"] != "session.delay"]
        assert kinds == ["session.started", "session.ended"], told
        assert code == 1000
        started, ended = told[0], told[-1]
        assert (started["fps"], started["width"], started["height"]) == (25, 128, 128)
        assert started["settings"]["longest_side"] == 128 and "avc1" in started["mime"]
        assert -0.04 <= ended["frames"] / 25 - seconds <= 0.04 and ended["percentile_99"] >= ended["median"] > 0
        with av.open(io.BytesIO(video), "r") as file:
            assert len(list(file.decode(video=0))) == ended["frames"]
    # Speech that ends within a sample is told, and the process hears of the next session all the same.
    with client.websocket_connect("/v1/realtime") as socket:
        begin(socket)
        assert json.loads(socket.receive_text())["type"] == "session.started"
        socket.send_bytes(pcm[:3201])
        socket.send_text(json.dumps({"type": "speech.finish"}))
        told, _, code = rest(socket)
        assert [one["error"]["code"] for one in told if one["type"] == "error"] == ["audio_error"] and code == 1008
    # Nothing said is no fault.
    with client.websocket_connect("/v1/realtime") as socket:
        begin(socket)
        socket.send_text(json.dumps({"type": "speech.finish"}))
        told, video, code = rest(socket)
        assert [one["type"] for one in told] == ["session.started", "session.ended"], told
        assert (told[1]["frames"], video, code) == (0, b"", 1000)
    # What must not be sent is told once, as the last message.
    for wrong in (json.dumps({"type": "session.start"}), "hello", bytes(5 * 2**20)):
        with client.websocket_connect("/v1/realtime") as socket:
            begin(socket)
            socket.send_text(wrong) if isinstance(wrong, str) else socket.send_bytes(wrong)
            told, _, code = rest(socket)
            kinds = [one["type"] for one in told]
            assert kinds.count("error") == 1 and kinds[-1] == "error" and code == 1008, told
    # Whoever begins while a session that nobody wants any more is ending waits for its end.
    with client.websocket_connect("/v1/realtime") as socket:
        begin(socket)
        assert json.loads(socket.receive_text())["type"] == "session.started"
        socket.send_text(json.dumps({"type": "session.cancel"}))
        with client.websocket_connect("/v1/realtime") as second:
            begin(second)
            assert json.loads(second.receive_text())["type"] == "session.started"
            second.send_text(json.dumps({"type": "session.cancel"}))
            rest(second)
        rest(socket)
    # A client that leaves ends its session, and there is room for another.
    with client.websocket_connect("/v1/realtime") as socket:
        begin(socket)
        assert json.loads(socket.receive_text())["type"] == "session.started"
        with client.websocket_connect("/v1/realtime") as second:
            begin(second)
            (refused,), _, code = rest(second)
            assert refused["error"]["code"] == "busy" and code == 1013
        socket.send_text(json.dumps({"type": "session.cancel"}))
        rest(socket)
    with client.websocket_connect("/v1/realtime") as socket:
        begin(socket, settings={"longest_side": 128, "face": 7})
        (failed,), video, _ = rest(socket)
        assert failed["error"]["code"] == "face_error" and "face" in failed["error"]["message"] and not video
    uploads = Path(client.app.state.service.settings.data) / "uploads"  # type: ignore[attr-defined]
    assert not list(uploads.iterdir())


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("hello", "settings_error"),
        (b"speech", "settings_error"),
        (json.dumps({"type": "speech.finish"}), "bad_request"),
        (json.dumps({"type": "session.start"}), "input_error"),
        (json.dumps({"type": "session.start", "image_reference": "AAAA", "model": "none"}), "settings_error"),
    ],
)
def test_a_session_that_cannot_begin_is_one_error(client: TestClient, first: str | bytes, code: str) -> None:
    with client.websocket_connect("/v1/realtime") as socket:
        socket.send_text(first) if isinstance(first, str) else socket.send_bytes(first)
        (told,), _, closed = rest(socket)
    assert told["type"] == "error" and told["error"]["code"] == code and closed == 1008


def test_a_page_of_another_origin_gets_no_session(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/realtime", headers={"origin": "https://stranger.example"}) as socket,
    ):
        socket.receive_text()
