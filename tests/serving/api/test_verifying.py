"""A video that is sent is told what marks it has, as `verify` tells it, and nothing of it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from fantasytalking import Verification, verify
from fantasytalking.media.video import write_video
from fantasytalking.provenance.marks import Marks
from fantasytalking.serving.server_settings import ServerSettings
from tests.pipeline.tiny_pipeline import portrait
from tests.serving.hand_service import HandService
from tests.serving.uploads.attacks import mov_with_reference, picture, wav

FRAMES = [np.roll(portrait(320), step, axis=1) for step in (0, 1, 2, 1, 0, 1)]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("marked") / "video.mp4", FRAMES, 25, marks=Marks(identifier=7))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandService]:
    made = HandService(
        tmp_path_factory.mktemp("service"), video_bytes=200_000, footage_seconds=2.0, uploads_per_minute=12
    )
    yield made
    made.store.close()


@pytest.fixture
def http(service: HandService) -> TestClient:
    return TestClient(service.app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def kept(service: HandService) -> list[Path]:
    return [
        path for path in service.settings.data.rglob("*") if path.is_file() and not path.name.startswith("jobs.sqlite")
    ]


def test_the_answer_is_the_record_of_verify_and_the_file_is_gone(
    http: TestClient, service: HandService, marked: Path
) -> None:
    answer = http.post("/v1/verify", files={"video_reference": ("../../secret.mp4", marked.read_bytes())})
    own = verify(marked)
    assert answer.status_code == 200 and own.is_marked and own.manifest.trust == "own"
    assert answer.json()["path"] is None and list(answer.json()) == list(own.summary())
    assert Verification.from_summary({**answer.json(), "path": str(marked)}) == own
    assert kept(service) == [] and list((service.settings.data / "uploads").iterdir()) == []


def test_a_changed_video_does_not_hold(http: TestClient, marked: Path) -> None:
    content = bytearray(marked.read_bytes())
    content[int(0.6 * len(content))] ^= 1
    found = http.post("/v1/verify", files={"video_reference": bytes(content)}).json()
    assert (found["manifest"]["state"], found["manifest"]["why"]) == (
        "invalid",
        ["The file was changed after it was signed."],
    )
    assert found["watermark"]["found"] and not found["is_marked"]


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (picture(), 415, "The video is PNG, which is no video; give a video such as mp4"),
        (b"no video", 415, "The video is no file of a known kind"),
        (b"", 422, "The video is empty"),
        (bytes(200_001), 413, "more than 200,000 bytes"),
        (mov_with_reference("/etc/passwd"), 422, "The file that was sent has only sound"),
        (None, 422, "video_reference is missing; give one video."),
    ],
)
def test_what_cannot_be_checked_is_refused_as_other_uploads_are(
    http: TestClient, service: HandService, content: bytes | None, status: int, told: str
) -> None:
    files = {"audio_reference": wav()} if content is None else {"video_reference": content}
    answer = http.post("/v1/verify", files=files)
    error = answer.json()["error"]
    assert answer.status_code == status and told in error["message"], error
    assert error["param"] in ("video_reference", None) and str(service.settings.data) not in answer.text
    assert kept(service) == []


def test_too_long_a_video_is_refused(http: TestClient, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.mp4", [portrait(64)] * 60, 25)
    answer = http.post("/v1/verify", files={"video_reference": long.read_bytes()})
    assert answer.status_code == 422 and "lasts 2.4 s and at most 2 s are accepted" in answer.json()["error"]["message"]


def test_it_counts_as_an_upload(tmp_path: Path) -> None:
    service = HandService(tmp_path, uploads_per_minute=1)
    http = TestClient(service.app, base_url="http://127.0.0.1:8000")
    made = f"/v1/videos/video_{'0' * 32}/verify"
    assert [http.post(path).status_code for path in ("/v1/verify", made)] == [400, 429]
    service.store.close()


def test_an_interface_tells_the_record(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    route = document["paths"]["/v1/verify"]["post"]
    name = route["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    shown = document["components"]["schemas"][name]
    assert set(shown["properties"]) == set(Verification.__dataclass_fields__)
    assert re.search("video_reference", str(route["requestBody"]))


def test_a_portrait_that_is_accepted_can_be_sent_again() -> None:
    """It is kept as a PNG of its pixels, which is larger than what was sent."""
    usual = ServerSettings()
    assert usual.image_bytes > 3.01 * usual.image_pixels
