"""Methods that a path of the service does not take: the answer names those that it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.server_settings import ServerSettings
from tests.serving.no_workers import NoWorkers

OWN = "http://127.0.0.1:8000"
TRIED = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app = create_app(ServerSettings(data=tmp_path_factory.mktemp("service")), NoWorkers())
    with TestClient(app, base_url=OWN) as calls:
        yield calls


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("/v1/videos", "GET, HEAD, POST"),
        ("/v1/videos/video_1", "GET, HEAD, DELETE"),
        ("/v1/videos/video_1/content", "GET, HEAD"),
        ("/v1/videos/video_1/cancel", "POST"),
        ("/v1/session", "GET, HEAD, POST, DELETE"),
        ("/v1/speech", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/static/page.js", "GET, HEAD"),
    ],
)
def test_the_answer_to_a_method_that_is_not_taken_names_those_that_are(
    client: TestClient, path: str, taken: str
) -> None:
    for method in TRIED:
        if method in taken.split(", "):
            continue
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, taken), method
        if method != "HEAD":
            told = answer.json()["error"]
            assert (
                told["code"] == "method_not_allowed" and f"does not take {method}; it takes {taken}." in told["message"]
            )


def test_every_method_that_is_named_is_taken(client: TestClient) -> None:
    for path in ("/v1/videos", "/v1/videos/video_1", "/v1/session", "/"):
        for method in client.request("PUT", path).headers["Allow"].split(", "):
            assert client.request(method, path).status_code != 405, (method, path)
