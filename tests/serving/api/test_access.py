"""Who is let in, from where, and with which headers answers go out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import SettingsError
from fantasytalking.serving.api.access import CONTENT_SECURITY_POLICY, protect
from fantasytalking.serving.api.identity import Identities, client_of
from fantasytalking.serving.server_settings import ServerSettings

ANNA, BEN = "anna-has-a-long-token", "ben-has-another-token"
OWN = "http://127.0.0.1:8000"
LIVE = "ws://127.0.0.1:8000/v1/realtime"


def server(**settings: Any) -> FastAPI:
    """An application with a route of each kind behind the layers of access."""
    app = FastAPI()

    @app.get("/v1/videos")
    async def listed(request: Request) -> dict[str, str]:
        return {"client": client_of(request.scope)}

    @app.post("/v1/videos")
    async def made(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/healthz")
    async def healthy() -> dict[str, str]:
        return {"status": "ok"}

    @app.websocket("/v1/realtime")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(client_of(socket.scope))
        await socket.close()

    protect(app, ServerSettings(**settings))
    return app


def client(base_url: str = OWN, **settings: Any) -> TestClient:
    return TestClient(server(**settings), base_url=base_url)


def with_tokens(**more: Any) -> dict[str, Any]:
    return {"tokens": {"anna": ANNA, "ben": BEN}, **more}


def test_a_server_that_others_can_reach_does_not_start_without_tokens() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "talk.example"):
        with pytest.raises(SettingsError, match="has no tokens; give token_file"):
            server(host=host)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        server(host=host)
    server(host="0.0.0.0", **with_tokens())


def test_serve_says_so_before_it_writes_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data")]) == 2
    assert "has no tokens; give token_file (--token-file FILE" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_loopback_server_lets_everyone_in_and_names_them() -> None:
    with client() as http:
        assert http.get("/v1/videos").json() == {"client": "testclient"}
        assert http.get("/v1/videos", headers={"X-Client-ID": "studio-1"}).json() == {"client": "studio-1"}
        # a name that is no name is not taken
        assert http.get("/v1/videos", headers={"X-Client-ID": "../etc"}).json() == {"client": "testclient"}
        assert http.get("/v1/session").json() == {"needs_token": False, "client": "testclient"}


def test_a_token_says_who_the_client_is() -> None:
    with client(**with_tokens()) as http:
        for token, name in ((ANNA, "anna"), (BEN, "ben")):
            answer = http.get("/v1/videos", headers={"Authorization": f"Bearer {token}", "X-Client-ID": "boss"})
            assert answer.json() == {"client": name}
        for headers in ({}, {"Authorization": f"Bearer {ANNA[:-1]}"}, {"Authorization": f"Basic {ANNA}"}):
            answer = http.get("/v1/videos", headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "unauthorized"
        assert http.get("/healthz").status_code == 200


def test_a_page_gets_a_cookie_for_its_token() -> None:
    with client(**with_tokens()) as http:
        assert http.post("/v1/session", json={"token": "wrong"}).status_code == 401
        answer = http.post("/v1/session", json={"token": ANNA})
        cookie = answer.headers["set-cookie"].lower()
        assert answer.json()["client"] == "anna" and ANNA not in cookie
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert http.get("/v1/videos").json() == {"client": "anna"}
        with http.websocket_connect(LIVE, headers={"Origin": OWN}) as socket:
            assert socket.receive_text() == "anna"
        http.delete("/v1/session")
        assert http.get("/v1/videos").status_code == 401


def test_a_cookie_is_worth_nothing_when_it_is_changed_or_its_token_is() -> None:
    old = Identities({"anna": ANNA, "ben": BEN})
    value = old.session("anna")

    def found(identities: Identities, cookie: str) -> str | None:
        return identities.of_request(
            {"type": "http", "headers": [(b"cookie", f"fantasytalking_session={cookie}".encode())]}
        )

    assert found(old, value) == "anna"
    assert found(old, value.replace("anna", "ben")) is None
    name, expires, signature = value.split(":")
    assert found(old, f"{name}:{int(expires) + 1}:{signature}") is None
    assert found(Identities({"anna": BEN}), value) is None
    assert found(old, "anna::") is None and found(old, "nobody:99999999999:x") is None


def test_wrong_tokens_are_slowed_down() -> None:
    with client(**with_tokens()) as http:
        answers = [http.get("/v1/videos", headers={"Authorization": "Bearer guess"}) for _ in range(25)]
        assert answers[0].status_code == 401 and answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "a@b"])
def test_a_name_that_points_at_this_machine_is_refused(host: str) -> None:
    with client() as http:
        answer = http.get("/v1/videos", headers={"Host": host})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "unknown_host"


def test_own_names_and_addresses_are_accepted() -> None:
    for host in ("localhost", "localhost:8000", "127.0.0.1:9", "[::1]:8000", "LOCALHOST"):
        with client() as http:
            assert http.get("/healthz", headers={"Host": host}).status_code == 200
    with client(host="0.0.0.0", hosts=("talk.example",), **with_tokens()) as http:
        for host, status in (("talk.example", 200), ("10.1.2.3:8000", 200), ("other.example", 403)):
            assert http.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": OWN}, 200),
        ({"Origin": "https://127.0.0.1:8000"}, 200),
        ({"Origin": "https://studio.example"}, 200),
        ({"Origin": "http://127.0.0.1:8001"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str], status: int) -> None:
    with client(origins=("https://studio.example",)) as http:
        assert http.post("/v1/videos", headers=headers).status_code == status


def test_a_websocket_of_another_origin_is_closed() -> None:
    with client() as http:
        with http.websocket_connect(LIVE, headers={"Origin": OWN}) as socket:
            assert socket.receive_text() == "testclient"
        with (
            pytest.raises(WebSocketDisconnect),
            http.websocket_connect(LIVE, headers={"Origin": "https://evil.example"}),
        ):
            pass


def test_no_other_page_may_read_answers() -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with client() as http:
        for answer in (http.options("/v1/videos", headers=asks), http.get("/v1/videos", headers=asks)):
            assert not [name for name in answer.headers if name.startswith("access-control")]
    with client(origins=("https://studio.example",)) as http:
        answer = http.options("/v1/videos", headers={**asks, "Origin": "https://studio.example"})
        assert answer.headers["access-control-allow-origin"] == "https://studio.example"
        assert "access-control-allow-origin" not in http.options("/v1/videos", headers=asks).headers


def test_answers_are_safe_for_browsers() -> None:
    with client(**with_tokens()) as http:
        for answer in (http.get("/healthz"), http.get("/v1/videos"), http.get("/nothing")):
            assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY and "http" not in CONTENT_SECURITY_POLICY
