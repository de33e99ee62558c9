"""What an operator looks at: health, readiness, metrics, logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import fantasytalking
from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.operations.structured_logs import configure_logs, log_event
from fantasytalking.serving.server_settings import ServerSettings
from tests.serving.no_workers import NoWorkers

EXAMPLE = Path(fantasytalking.__file__).parent / "models" / "embedded" / "example"
OWN = "http://127.0.0.1:8000"
SECRET = "a prompt that nobody may read"


@pytest.fixture
def workers() -> NoWorkers:
    return NoWorkers()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, out = logging.getLogger(), io.StringIO()
    before = list(root.handlers), root.level
    configure_logs("json", "info", out)
    yield out
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])


@pytest.fixture
def http(tmp_path: Path, workers: NoWorkers) -> Iterator[TestClient]:
    with TestClient(create_app(ServerSettings(data=tmp_path / "data"), workers), base_url=OWN) as client:
        yield client


def send(http: TestClient, **fields: str) -> str:
    files = [(f"{name}_reference", (f"{SECRET}.bin", (EXAMPLE / file).read_bytes()))
             for name, file in (("image", "portrait.png"), ("audio", "speech.wav"))]  # fmt: skip
    answer = http.post("/v1/videos", data=fields, files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_health_and_readiness(http: TestClient, workers: NoWorkers) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz")
    assert ready.status_code == 200 and set(ready.json()["checks"].values()) == {"ok"}
    workers.alive = 0
    ready = http.get("/readyz")
    assert ready.status_code == 503 and ready.json()["checks"]["workers"] == "no worker runs"
    workers.alive = 1
    http.app.state.service.store._engine.dispose()  # type: ignore[attr-defined]
    http.app.state.service.closing.set()  # type: ignore[attr-defined]
    assert http.get("/readyz").json()["checks"]["server"] == "stopping"


def test_a_full_disk_is_not_ready(tmp_path: Path, workers: NoWorkers) -> None:
    settings = ServerSettings(data=tmp_path / "data", disk_free_bytes=2**50)
    with TestClient(create_app(settings, workers), base_url=OWN) as http:
        ready = http.get("/readyz")
    assert ready.status_code == 503 and ready.json()["checks"]["disk"].endswith("MiB are free")


def test_metrics_tell_queue_jobs_and_memory(http: TestClient, log: io.StringIO) -> None:
    send(http, prompt=SECRET, max_seconds="0.5")
    http.get("/v1/videos/unknown")
    store = http.app.state.service.store  # type: ignore[attr-defined]
    job = store.claim("hand", 30.0)
    store.report(job, 30.0, 40.0, "sampling", 1.0, 0)
    send(http, max_seconds="0.5")
    text = http.get("/metrics").text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["fantasytalking_jobs", "in_progress"] == 1 and found["fantasytalking_queue_length",] == 1
    assert found["fantasytalking_queue_oldest_seconds",] >= 0 and found["fantasytalking_workers",] == 1
    assert found["fantasytalking_memory_bytes", "server"] > 1e7 and found["fantasytalking_disk_free_bytes",] > 0
    assert found["fantasytalking_requests_total", "/v1/videos", "202", "POST"] == 2
    assert found["fantasytalking_requests_total", "/v1/videos/{video_id}", "404", "GET"] == 1
    assert SECRET not in text and "unknown" not in text


def test_metrics_tell_durations(tmp_path: Path, workers: NoWorkers) -> None:
    app = create_app(ServerSettings(data=tmp_path / "data"), workers)
    with TestClient(app, base_url=OWN) as http:
        send(http, max_seconds="0.5")
        store, metrics = app.state.service.store, app.state.metrics
        job = store.claim("hand", 30.0)
        store.report(job, 30.0, 40.0, "sampling", 1.0, 0)
        metrics.look(2.0)
        store.cancel(job.id, 3600.0)
        metrics.look(2.0)
        text = metrics.text().decode()
    assert 'fantasytalking_stage_seconds_total{stage="sampling"}' in text
    assert "fantasytalking_job_waiting_seconds_count 1.0" in text
    assert 'fantasytalking_job_seconds_count{status="cancelled"} 1.0' in text


def test_logs_are_lines_with_ids_and_without_content(http: TestClient, log: io.StringIO) -> None:
    send(http, prompt=SECRET, max_seconds="0.5")
    http.get(f"/v1/videos/{SECRET}?x={SECRET}", headers={"X-Request-ID": "studio-12345"})
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in told] == [
        ("POST", "/v1/videos", 202),
        ("GET", "/v1/videos/{video_id}", 404),
    ]
    assert told[0]["request_id"].startswith("req_") and told[1]["request_id"] == "studio-12345"
    assert SECRET not in log.getvalue() and "studio" not in log.getvalue().replace("studio-12345", "")


def test_the_files_of_the_page_do_not_fill_the_log(http: TestClient, log: io.StringIO) -> None:
    assert http.get("/static/icons.svg").status_code == 200
    assert http.get("/static/missing.svg").status_code == 404
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["method"], line["status"]) for line in told if line["event"] == "request"] == [("GET", 404)]


def test_a_request_id_is_given_back(http: TestClient) -> None:
    assert http.get("/v1/videos", headers={"X-Request-ID": "studio-12345"}).headers["x-request-id"] == "studio-12345"
    for bad in ("short", "with space in it", "x" * 100, "new\tline-123"):
        assert http.get("/v1/videos", headers={"X-Request-ID": bad}).headers["x-request-id"].startswith("req_")
    # also where the request is refused before any route
    assert http.get("/v1/videos", headers={"Host": "evil.example"}).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_unexpected_error_is_told_by_its_place_and_not_by_its_message(form: str) -> None:
    out = io.StringIO()
    root = logging.getLogger()
    before = list(root.handlers), root.level
    try:
        configure_logs(form, "info", out)  # type: ignore[arg-type]
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            logging.getLogger("fantasytalking.x").error("it failed", exc_info=error)
        log_event(logging.getLogger("fantasytalking.x"), "two\nlines", number=3)
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    text = out.getvalue()
    assert SECRET not in text and "ValueError" in text and "test_operations.py" in text
    assert len(text.splitlines()) == 2
