"""Jobs in a database, on SQLite and on PostgreSQL: each ends once, whoever dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy

from fantasytalking.errors import SettingsError
from fantasytalking.serving.jobs.job_files import new_job_id
from fantasytalking.serving.jobs.job_records import JobError, JobInputs, JobStatus, Mode, NewJob, VideoFacts
from fantasytalking.serving.jobs.job_store import JobStore, QueueFull
from fantasytalking.serving.jobs.job_tables import open_database

FACTS = VideoFacts(256, 256, 25.0, 25, 1.0, 1000)
ERROR = JobError("face_error", "No face was found.")
KEEP = 3600.0


@pytest.fixture
def store(database: str) -> Iterator[JobStore]:
    made = JobStore(open_database(database))
    yield made
    made.close()


def new_job(client: str = "anna", **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "id": new_job_id(),
        "client": client,
        "mode": Mode.PORTRAIT,
        "model": "embedded",
        "profile": "exact",
        "given": {"steps": 2},
        "settings": {"steps": 2, "seed": 0},
        "inputs": JobInputs("image", ("audio-0",)),
        "notes": ("A note.",),
        "request_id": "req_1",
    }
    return NewJob(**{**values, **changes})


def add(store: JobStore, client: str = "anna", **changes: Any) -> str:
    return store.add(new_job(client, **changes), 100, 100)[0].id


def test_a_job_is_found_as_it_was_accepted_and_ends_with_its_video(store: JobStore) -> None:
    job = add(store)
    found = store.find(job)
    assert found is not None and found.status == JobStatus.QUEUED and found.notes == ("A note.",)
    assert found.inputs == JobInputs("image", ("audio-0",)) and found.settings == {"steps": 2, "seed": 0}
    claimed = store.claim("worker", 30)
    assert claimed is not None and claimed.id == job and (claimed.fence, claimed.tries) == (1, 1)
    assert store.report(claimed, 30, 40.0, "sampling", 12.5, 3)
    found = store.find(job)
    assert found is not None and (found.progress, found.stage, found.seconds_left, found.preview) == (
        40.0,
        "sampling",
        12.5,
        3,
    )
    assert store.complete(claimed, FACTS, "video-1.mp4", {"steps": 2, "seed": 7}, ["Told."], KEEP)
    ended = store.find(job)
    assert ended is not None and ended.status == JobStatus.COMPLETED and ended.video == FACTS
    assert ended.settings["seed"] == 7 and ended.worker is None and ended.progress == 100
    assert store.claim("worker", 30) is None


def test_a_job_ends_once_and_a_worker_that_was_given_up_changes_nothing(store: JobStore) -> None:
    job = add(store)
    first = store.claim("first", 30)
    assert first is not None
    assert [one.failed for one in store.recover(lambda name: name == "first", 3, KEEP)] == [False]
    second = store.claim("second", 30)
    assert second is not None and second.id == job and (second.fence, second.tries) == (2, 2)
    assert not store.report(first, 30, 90, "writing", None, 0)
    assert not store.complete(first, FACTS, "video-1.mp4", {}, [], KEEP)
    assert not store.fail(first, ERROR, KEEP) and not store.hand_back(first)
    assert store.complete(second, FACTS, "video-2.mp4", {}, [], KEEP)
    assert not store.fail(second, ERROR, KEEP) and not store.cancel(job, KEEP)
    found = store.find(job)
    assert found is not None and found.video_file == "video-2.mp4" and found.error is None


def test_only_so_many_dead_workers_are_forgiven_and_a_hand_back_is_none(store: JobStore) -> None:
    job = add(store)
    for _ in range(5):
        claimed = store.claim("orderly", 30)
        assert claimed is not None and claimed.tries == 1 and store.hand_back(claimed)
    for tries in (1, 2, 3):
        claimed = store.claim("dead", 30)
        assert claimed is not None and claimed.tries == tries
        assert [one.failed for one in store.recover(lambda _: True, 3, KEEP)] == [tries == 3]
    found = store.find(job)
    assert found is not None and found.status == JobStatus.FAILED and found.error is not None
    assert found.error.code == "worker_died" and "3 times" in found.error.message


def test_a_worker_that_is_not_heard_of_loses_its_job_when_the_lease_is_over(store: JobStore) -> None:
    add(store)
    claimed = store.claim("far away", 0.05)
    assert claimed is not None and store.report(claimed, 0.05, 1, None, None, 0)
    time.sleep(0.1)
    assert len(store.recover(lambda _: False, 3, KEEP)) == 1
    again = store.claim("another", 30)
    assert again is not None and not store.recover(lambda _: False, 3, KEEP)


def test_a_cancelled_or_deleted_job_tells_its_worker(store: JobStore) -> None:
    jobs = [add(store), add(store)]
    claims = [store.claim("worker", 30), store.claim("worker", 30)]
    assert store.cancel(jobs[0], KEEP) and store.delete(jobs[1])
    for claim in claims:
        assert claim is not None and not store.report(claim, 30, 1, None, None, 0)
    found = store.find(jobs[0])
    assert found is not None and found.status == JobStatus.CANCELLED and store.find(jobs[1]) is None
    assert not store.cancel(jobs[0], KEEP) and not store.delete(jobs[1])


def test_clients_take_turns_however_many_jobs_one_of_them_sends(store: JobStore) -> None:
    for client in "aaaaabbc":
        add(store, client)
    places = store.positions()
    assert sorted(places.values()) == list(range(1, 9))
    order = []
    while (job := store.claim("worker", 30)) is not None:
        order.append(job.client)
        if job.client != "a":
            # Others finish at once; it does not help the client whose jobs go on.
            store.complete(job, FACTS, "video-1.mp4", {}, [], KEEP)
    assert order == list("abcbaaaa")


def test_a_client_that_deletes_its_jobs_does_not_get_ahead(store: JobStore) -> None:
    add(store, "a")
    first = store.claim("worker", 30)
    assert first is not None and store.complete(first, FACTS, "video-1.mp4", {}, [], KEEP) and store.delete(first.id)
    add(store, "a")
    add(store, "b")
    second = store.claim("worker", 30)
    assert second is not None and second.client == "b"


def test_the_queue_has_limits_in_all_and_for_each_client(store: JobStore) -> None:
    for client in "aab":
        store.add(new_job(client), 4, 2)
    with pytest.raises(QueueFull) as full:
        store.add(new_job("a"), 4, 2)
    assert full.value.of_client
    store.add(new_job("c"), 4, 2)
    with pytest.raises(QueueFull) as full:
        store.add(new_job("d"), 4, 2)
    assert not full.value.of_client and full.value.ahead == 4


def test_an_idempotency_key_gives_the_same_job_even_when_it_comes_at_the_same_time(store: JobStore) -> None:
    answers: list[tuple[str, bool]] = []

    def send() -> None:
        job, is_new = store.add(new_job(idempotency_key="once"), 100, 100)
        answers.append((job.id, is_new))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job for job, _ in answers}) == 1 and sorted(new for _, new in answers) == [False] * 5 + [True]
    assert add(store, "ben", idempotency_key="once") != answers[0][0]


def test_many_workers_at_once_claim_each_job_once(store: JobStore) -> None:
    jobs = {add(store, client) for client in "abcd" for _ in range(6)}
    claimed: list[str] = []

    def work(name: str) -> None:
        while (job := store.claim(name, 30)) is not None:
            claimed.append(job.id)
            assert store.complete(job, FACTS, "video-1.mp4", {}, [], KEEP)

    threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(jobs) and store.counts()[JobStatus.COMPLETED] == 24


def test_a_clients_jobs_come_in_pages_and_nobody_elses(store: JobStore) -> None:
    jobs = [add(store) for _ in range(5)]
    add(store, "ben")
    first, more = store.page("anna", 2, None, True, None)
    assert [job.id for job in first] == jobs[:2:-1] and more
    rest, more = store.page("anna", 3, first[-1].id, True, None)
    assert [job.id for job in rest] == jobs[2::-1] and not more
    assert store.page("anna", 10, None, False, JobStatus.FAILED) == ([], False)


def test_jobs_whose_time_is_over_are_found(store: JobStore) -> None:
    kept, gone = add(store), add(store)
    store.cancel(kept, KEEP)
    store.cancel(gone, -1)
    assert store.expired() == [gone]


def test_tables_of_another_version_are_refused(database: str) -> None:
    engine = open_database(database)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE facts SET value = '99'"))
    engine.dispose()
    with pytest.raises(SettingsError, match="tables of version 99"):
        open_database(database)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://host/name", "'mysql' was given"),
        ("no url", "URL of the database is none"),
        ("sqlite://", "kept in a file"),
        ("postgresql://u:secret@127.0.0.1:1/none", r"u:\*\*\*@127.0.0.1:1/none cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_sentence_without_its_password(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        open_database(url)
    assert "secret" not in str(refused.value)
