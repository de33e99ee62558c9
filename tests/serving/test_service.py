"""The service as people start it, with a tiny real model and one worker process."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2
import psutil
import pytest
from PIL import Image

from fantasytalking import verify
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.records import describe
from tests.serving.service_process import Files, ServiceProcess, write_inputs


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def server(given: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    options = ("--model", str(given["model"]), "--stop-seconds", "0", "--queued-jobs-per-client", "3")
    made = ServiceProcess(tmp_path_factory.mktemp("server"), *options)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


@pytest.fixture
def short(given: dict[str, Path]) -> Files:
    return [("image_reference", given["face"]), ("audio_reference", given["short"])]


@pytest.fixture
def long(given: dict[str, Path]) -> Files:
    return [("image_reference", given["face"]), ("audio_reference", given["long"])]


@pytest.fixture(scope="module")
def finished(server: ServiceProcess, given: dict[str, Path]) -> str:
    """A completed job; the first of the server."""
    files = [("image_reference", given["face"]), ("audio_reference", given["short"])]
    video = server.make(files, {"Idempotency-Key": "first"}, steps="2", seed="7", prompt="")
    names = [name for name, _ in server.events(video)]
    assert names[0] == "update" and names[-1] == "end" and set(names) <= {"update", "preview", "end"}
    return video


def frames_of(data: bytes, path: Path) -> int:
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.audio
        return len(list(container.decode(video=0)))


def test_a_finished_video_is_served_whole_and_in_ranges(server: ServiceProcess, finished: str, tmp_path: Path) -> None:
    job = server.job(finished)
    assert (job["status"], job["progress"], job["mode"], job["model"]) == ("completed", 100, "portrait", "tiny")
    whole = server.call("GET", f"/v1/videos/{finished}/content")
    assert whole.status_code == 200 and whole.headers["content-type"] == "video/mp4"
    assert len(whole.content) == job["video"]["bytes"]
    assert frames_of(whole.content, tmp_path / "got.mp4") == job["video"]["frames"] == 12
    part = server.call("GET", f"/v1/videos/{finished}/content", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    changed = {"Range": "bytes=10-19", "If-Range": '"another"'}
    assert server.call("GET", f"/v1/videos/{finished}/content", headers=changed).content == whole.content
    outside = server.call("GET", f"/v1/videos/{finished}/content", headers={"Range": "bytes=9999999-"})
    assert outside.status_code == 416 and outside.headers["content-range"] == f"bytes */{len(whole.content)}"
    assert outside.json()["error"]["code"] == "bad_range"
    for odd in ("bytes=abc", "lines=1-2", "bytes=5-2"):
        answer = server.call("GET", f"/v1/videos/{finished}/content", headers={"Range": odd})
        assert (answer.status_code, answer.content) == (200, whole.content), odd
    known = {"If-None-Match": f'"other", W/{whole.headers["etag"]}'}
    again = server.call("GET", f"/v1/videos/{finished}/content", headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", whole.headers["etag"])
    saved = server.call("GET", f"/v1/videos/{finished}/content?download=1")
    assert saved.headers["content-disposition"] == f'attachment; filename="{finished}.mp4"'
    for picture in ("thumbnail", "preview", "input/image"):
        assert server.call("GET", f"/v1/videos/{finished}/{picture}").content.startswith(b"\xff\xd8\xff")


def test_head_is_answered_as_get_without_a_body(server: ServiceProcess, finished: str) -> None:
    video = f"/v1/videos/{finished}"
    for path in ("/", "/healthz", "/static/icon.svg", video, f"{video}/content", f"{video}/events", "/v1/videos/none"):
        with httpx2.stream("HEAD", server.url + path, timeout=20) as head:
            got = server.call("GET", path)
            assert (head.status_code, head.read()) == (got.status_code, b""), path
            assert head.headers.get("content-length") == got.headers.get("content-length")
            assert head.headers["content-type"] == got.headers["content-type"]
    part = server.call("HEAD", f"{video}/content", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def pictures_of(video: bytes) -> list[bytes]:
    with av.open(io.BytesIO(video), "r") as file:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in file.decode(video=0)]


def inputs_of(server: ServiceProcess, video: str) -> dict[str, httpx2.Response]:
    """Field -> file that was sent in it."""
    return {
        one["field"]: server.call("GET", f"/v1/videos/{video}/input/{one['name']}")
        for one in server.job(video)["inputs"]
    }


def test_what_was_sent_for_a_video_comes_back_safely(server: ServiceProcess, finished: str, short: Files) -> None:
    picture, speech = inputs_of(server, finished).values()
    sent = dict(short)
    assert (picture.headers["content-type"], speech.headers["content-type"]) == ("image/png", "video/mp4")
    assert Image.open(io.BytesIO(picture.content)).tobytes() == Image.open(sent["image_reference"]).tobytes()
    assert speech.content == sent["audio_reference"].read_bytes()
    for answer, name in ((picture, "portrait.png"), (speech, "audio-0.mp4")):
        assert answer.headers["content-disposition"] == f'attachment; filename="{finished}-{name}"'
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    for name in ("audio-1", "footage", "preview.jpg", "video-1.mp4", "..%2Fjobs.db", "%2Fetc%2Fpasswd", "x" * 500):
        assert server.call("GET", f"/v1/videos/{finished}/input/{name}").status_code == 404, name


def test_a_finished_video_is_checked_for_its_marks(server: ServiceProcess, finished: str, tmp_path: Path) -> None:
    found = server.call("POST", f"/v1/videos/{finished}/verify").json()
    video = tmp_path / "video.mp4"
    video.write_bytes(server.call("GET", f"/v1/videos/{finished}/content").content)
    assert {**found, "path": str(video)} == json.loads(json.dumps(verify(video).summary()))
    assert found["manifest"]["state"] == "valid"


def test_all_settings_of_a_job_posted_again_as_json_give_the_same_video(server: ServiceProcess, finished: str) -> None:
    first = server.job(finished)
    assert first["given"] == {"steps": 2, "seed": 7, "prompt": ""}
    assert set(first["settings"]) == {one.name for one in describe(GenerationSettings)}
    kept = inputs_of(server, finished).items()
    files = {name: {"data": base64.b64encode(answer.content).decode()} for name, answer in kept}
    again = server.call("POST", "/v1/videos", json={**files, **first["settings"], "model": "tiny"}).json()
    assert server.wait(again["id"])["settings"] == first["settings"]
    # No two signatures are alike, so the pictures are compared.
    videos = [server.call("GET", f"/v1/videos/{video}/content").content for video in (finished, again["id"])]
    pictures = [pictures_of(video) for video in videos]
    assert pictures[0] and pictures[0] == pictures[1]


def test_a_repeated_idempotency_key_gives_the_same_job(server: ServiceProcess, finished: str, short: Files) -> None:
    key = {"Idempotency-Key": "first"}
    again = server.send(short, key, steps="2", seed="7", prompt="")
    assert again.status_code == 202 and again.json()["id"] == finished
    assert again.headers["idempotency-replayed"] == "true"
    other = server.send(short, key, steps="3")
    assert other.status_code == 422 and other.json()["error"]["code"] == "idempotency_key_reused"


def test_a_client_sees_its_own_jobs_alone(server: ServiceProcess, finished: str) -> None:
    stranger = {"X-Client-ID": "stranger"}
    reading = [("GET", path) for path in ("", "/content", "/events", "/input/portrait", "/input/audio-0")]
    for method, path in (*reading, ("POST", "/cancel"), ("POST", "/verify"), ("DELETE", "")):
        answer = server.call(method, f"/v1/videos/{finished}{path}", headers=stranger)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found", path
    assert server.call("GET", "/v1/videos", headers=stranger).json()["data"] == []
    assert finished in [job["id"] for job in server.call("GET", "/v1/videos").json()["data"]]


def test_footage_is_dubbed_and_two_people_speak(server: ServiceProcess, given: dict[str, Path]) -> None:
    footage = server.make([("video_reference", given["footage"]), ("audio_reference", given["short"])])
    two: Files = [("image_reference", given["two"]), ("audio_reference", given["short"])]
    speakers = server.make([*two, ("audio_reference", given["short"])], audio_face=["1", "0"])
    dubbed, spoken = server.wait(footage), server.wait(speakers)
    assert [(one["name"], one["field"], one["face"]) for one in dubbed["inputs"]] == [
        ("footage", "video_reference", None),
        ("audio-0", "audio_reference", None),
    ]
    assert [(one["name"], one["face"]) for one in spoken["inputs"]] == [
        ("portrait", None),
        ("audio-0", 1),
        ("audio-1", 0),
    ]
    kept = server.call("GET", f"/v1/videos/{footage}/input/footage")
    assert (kept.headers["content-type"], kept.content) == ("video/mp4", given["footage"].read_bytes())
    assert (dubbed["status"], dubbed["mode"], dubbed["video"]["frames"]) == ("completed", "footage", 20)
    assert (spoken["status"], spoken["mode"], spoken["video"]["width"]) == ("completed", "speakers", 400)


@pytest.mark.parametrize(
    ("fields", "left_out", "status", "param", "told"),
    [
        (
            {"steps": "0"},
            "",
            422,
            "steps",
            "steps must be a whole number from 1 to 1000, but 0 was given; leave it out for 2.",
        ),
        ({"steps": "9" * 400}, "", 422, "steps", "steps must be a whole number from 1 to 1000"),
        ({"stepz": "3"}, "", 422, "steps", "There is no field 'stepz'; did you mean 'steps'?"),
        ({"model": "/etc"}, "", 422, "model", "There is no model '/etc' here"),
        ({"profile": "quick"}, "", 422, "profile", "There is no profile 'quick'"),
        ({"face": "3"}, "", 422, "image_reference", "There is no face 3 in the image: 1 found"),
        ({}, "image_reference", 422, "image_reference", "image_reference is missing"),
        ({}, "audio_reference", 422, "audio_reference", "audio_reference is missing"),
        ({"audio_face": "x"}, "", 422, "audio_face", "audio_face must be the number of a face"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence_and_leaves_nothing(
    server: ServiceProcess,
    short: Files,
    fields: dict[str, str],
    left_out: str,
    status: int,
    param: str,
    told: str,
) -> None:
    before = set((server.data / "jobs").iterdir())
    answer = server.send([file for file in short if file[0] != left_out], None, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param) and told in error["message"], error
    assert str(server.data) not in answer.text and set((server.data / "jobs").iterdir()) == before


def test_the_schema_and_the_list_of_settings_are_the_records(server: ServiceProcess) -> None:
    document = server.call("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    body = document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    listed = {one["name"]: one for one in server.call("GET", "/v1/settings").json()["data"]}
    for kind in ("multipart/form-data", "application/json"):
        schema = body[kind]["schema"]["properties"]
        for known in describe(GenerationSettings):
            shown, told = schema[known.name], listed[known.name]
            assert shown["description"] == told["help"] == known.help
            assert shown.get("minimum") == told["minimum"] == known.minimum
            assert shown.get("x-unit", "") == told["unit"] == known.unit
            assert [one for one in shown.get("enum", []) if one] == told["choices"] == list(known.choices)
    assert server.call("GET", "/v1/models").json()["data"][0]["id"] == "tiny"
    faces = server.call("POST", "/v1/faces", files=[("image_reference", b"GIF89a")])
    assert faces.status_code in (415, 422)


def test_faces_of_a_picture_are_found_and_examples_are_served(server: ServiceProcess, given: dict[str, Path]) -> None:
    found = server.call("POST", "/v1/faces", files=[("image_reference", given["two"].read_bytes())]).json()
    assert (found["width"], found["height"], [one["number"] for one in found["faces"]]) == (400, 200, [0, 1])
    assert all(one["usable"] and one["confidence"] > 0.5 for one in found["faces"])
    for example in server.call("GET", "/v1/examples").json()["data"]:
        assert server.call("GET", example["url"]).headers["content-type"] == example["type"]


def test_jobs_that_wait_or_run_can_be_cancelled_and_deleted_and_beyond_the_limit_come_later(
    server: ServiceProcess, short: Files, long: Files
) -> None:
    # So many steps that it runs for minutes: that it ends at all shows that it ends within a segment.
    running = server.make(long, steps="1000")
    waiting = [server.make(short), server.make(short)]
    full = server.send(short)
    assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
    assert "the most that one client may have" in full.json()["error"]["message"]
    assert server.job(waiting[1])["position"] == 2 + (server.job(running)["status"] == "queued")
    server.wait(running, lambda job: job["status"] == "in_progress")
    assert server.call("POST", f"/v1/videos/{running}/cancel").json()["status"] == "cancelled"
    for method, path in (("GET", "content"), ("POST", "verify")):
        assert server.call(method, f"/v1/videos/{running}/{path}").status_code == 409
    assert server.call("GET", f"/v1/videos/{running}/input/portrait").status_code == 200
    for video in (*waiting, running):
        assert server.call("DELETE", f"/v1/videos/{video}").json()["deleted"] is True
        for path in ("", "/input/portrait", "/input/audio-0"):
            assert server.call("GET", f"/v1/videos/{video}{path}").status_code == 404
    last = server.make(short)
    assert server.wait(last)["status"] == "completed"
    left = {path.name for path in (server.data / "jobs").iterdir()}
    assert last in left and not left & {running, *waiting} and not list((server.data / "trash").iterdir())
    assert {path.name for path in (server.data / "jobs" / last).iterdir()} == {
        "image",
        "audio-0",
        "preview.jpg",
        "video-1.mp4",
    }


@pytest.mark.slow
def test_a_long_job_survives_a_killed_worker_a_killed_server_and_a_stop(
    server: ServiceProcess, short: Files, long: Files, tmp_path: Path
) -> None:
    video = server.make(long, steps="2")
    other = server.make(short, {"Idempotency-Key": "other"}, steps="1")
    folder = server.data / "jobs" / video

    def next_segment(count: int) -> Path:
        """The folder of segments, once it has more than so many."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for found in folder.glob("*.unfinished/progress.json"):
                if len(json.loads(found.read_text())["segments"]) > count:
                    return found.parent
            time.sleep(0.02)
        raise AssertionError(server.log.read_text())

    segments = next_segment(0)
    first = (segments / "segment-0000.mp4").stat().st_mtime_ns
    [worker] = server.workers
    worker.kill()
    server.wait(video, lambda job: job["tries"] == 2)
    segments = next_segment(1)
    assert segments.name == "video-2.mp4.unfinished"
    # Neither made again nor lost.
    assert (segments / "segment-0000.mp4").stat().st_mtime_ns == first
    workers = server.workers
    server.kill()
    psutil.wait_procs(workers, timeout=20)
    assert not any(one.is_running() for one in workers)
    server.start()
    assert server.make(short, {"Idempotency-Key": "other"}, steps="1") == other
    segments = next_segment(2)
    assert (segments / "segment-0000.mp4").stat().st_mtime_ns == first
    assert server.stop(signal.SIGTERM) == 0
    server.start()
    ended = server.wait(video)
    assert (ended["status"], ended["video"]["frames"]) == ("completed", 150)
    # The server's own ends are not the job's fault.
    assert ended["tries"] <= 3 and server.wait(other)["status"] == "completed"
    data = server.call("GET", f"/v1/videos/{video}/content").content
    assert frames_of(data, tmp_path / "got.mp4") == 150
    assert len([path for path in folder.iterdir() if path.name.startswith("video-")]) == 1


def test_the_log_holds_nothing_of_what_clients_send(server: ServiceProcess, finished: str) -> None:
    text = server.log.read_text()
    assert finished in text and "face.png" not in text and "Traceback" not in text
    assert os.fspath(server.data) not in text
    assert httpx2.get(f"{server.url}/nothing").json()["error"]["code"] == "not_found"
