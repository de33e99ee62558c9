"""Texts that JSON can write and nothing can store: halves of characters, zeros."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import fantasytalking
from tests.serving.hand_service import HandService

EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"
FILES = {
    field: base64.b64encode((EXAMPLE / name).read_bytes()).decode()
    for field, name in (("image_reference", "portrait.png"), ("audio_reference", "speech.wav"))
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    service = HandService(tmp_path_factory.mktemp("service"))
    # not as a context: no worker takes a job
    yield TestClient(service.app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    service.store.close()


@pytest.mark.parametrize(
    "given",
    [{"prompt": "\ud800"}, {"negative_prompt": "a\udfffb"}, {"\ud800": 1}, {"model": "\ud800"}, {"profile": "\udc00"}, {"prompt": "a\0b"},
     {"seed": ["\ud800"]}, {"seed": {"\ud800": 1}}, {"audio_face": ["\ud800"]}, {"image_reference": "\ud800"}],
)  # fmt: skip
def test_half_a_character_is_refused_in_one_sentence(http: TestClient, given: dict[str, object]) -> None:
    body = json.dumps({**FILES, "max_seconds": 0.3, **given})
    answer = http.post("/v1/videos", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"].endswith((".", "?"))
    assert http.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/session", "/v1/speech"])
def test_other_texts_likewise(http: TestClient, path: str) -> None:
    body = json.dumps({"token": "\ud800", "text": "\ud800"})
    answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (401, 422), answer.text


@pytest.mark.parametrize(
    "path",
    ["/v1/videos/%00", "/v1/videos/%ED%A0%80", "/v1/videos?after=%00", "/v1/examples/%00", "/v1/settings?model=%00"],
)
def test_odd_addresses_are_not_found(http: TestClient, path: str) -> None:
    assert http.get(path).status_code in (404, 422)
