"""One try of one job in this process, with a tiny real model: what ends it early, and what is left then."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import pytest

from fantasytalking.serving.jobs.job_files import IMAGE, JobFiles, new_job_id
from fantasytalking.serving.jobs.job_records import Job, JobInputs, JobStatus, Mode, NewJob
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.jobs.job_tables import open_database
from fantasytalking.serving.jobs.retention import delete_expired
from fantasytalking.serving.workers.job_run import JobRunner
from fantasytalking.serving.workers.worker_options import WorkerOptions
from tests.serving.service_process import write_inputs


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def options(given: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> WorkerOptions:
    data = tmp_path_factory.mktemp("data")
    return WorkerOptions(data, f"sqlite:///{data}/jobs.sqlite", "cpu", {"tiny": str(given["model"])})


@pytest.fixture(scope="module")
def runner(options: WorkerOptions) -> JobRunner:
    return JobRunner(JobStore(open_database(options.database)), JobFiles(options.data), options)


def claimed(runner: JobRunner, given: dict[str, Path], speech: str = "long", steps: int = 1000) -> Job:
    """A job of one portrait, as a worker has it."""
    job = new_job_id()
    folder = runner._files.folder(job)
    folder.mkdir()
    for name, source in ((IMAGE, given["face"]), ("audio-0", given[speech])):
        (folder / name).write_bytes(source.read_bytes())
    inputs = JobInputs(IMAGE, ("audio-0",))
    new = NewJob(job, "anna", Mode.PORTRAIT, "tiny", "exact", {"steps": steps}, {}, inputs, ("Found before.",))
    runner._store.add(new, 100, 100)
    found = runner._store.claim("worker", 30)
    assert found is not None and found.id == job
    return found


def ended(runner: JobRunner, job: Job) -> Job:
    found = runner._store.find(job.id)
    assert found is not None
    return found


def names(runner: JobRunner, job: Job) -> set[str]:
    return {path.name for path in runner._files.folder(job.id).iterdir()}


def test_a_try_ends_with_its_video_its_notes_and_its_settings(runner: JobRunner, given: dict[str, Path]) -> None:
    job = claimed(runner, given, "short", 1)
    runner.run(job)
    found = ended(runner, job)
    assert (found.status, found.video_file, found.error) == (JobStatus.COMPLETED, "video-1.mp4", None)
    assert found.video is not None and found.video.frames == 12 and found.settings["steps"] == 1
    assert found.notes[0] == "Found before." and names(runner, job) == {IMAGE, "audio-0", "preview.jpg", "video-1.mp4"}


def test_a_try_that_takes_too_long_fails_within_a_segment(
    runner: JobRunner, options: WorkerOptions, given: dict[str, Path]
) -> None:
    hurried = JobRunner(runner._store, runner._files, dataclasses.replace(options, try_seconds=0.5))
    job = claimed(runner, given)
    hurried.run(job)
    found = ended(runner, job)
    assert found.status == JobStatus.FAILED and found.error is not None and found.error.code == "timed_out"
    assert names(runner, job) <= {IMAGE, "audio-0", "preview.jpg"}


def test_a_damaged_file_fails_the_job_in_a_sentence_without_paths(
    runner: JobRunner, options: WorkerOptions, given: dict[str, Path]
) -> None:
    job = claimed(runner, given, "short")
    (runner._files.folder(job.id) / IMAGE).write_bytes(b"no picture")
    runner.run(job)
    found = ended(runner, job)
    assert found.error is not None and found.error.code == "image_error"
    assert "image_reference" in found.error.message and str(options.data) not in found.error.message


@pytest.mark.parametrize("how", ["cancelled", "deleted", "handed back"])
def test_a_try_ends_when_its_job_is_taken_away(runner: JobRunner, given: dict[str, Path], how: str) -> None:
    job = claimed(runner, given)
    thread = threading.Thread(target=runner.run, args=(job,))
    thread.start()
    while ended(runner, job).stage != "generating":
        time.sleep(0.02)
    if how == "cancelled":
        assert runner._store.cancel(job.id, 60)
    elif how == "deleted":
        assert runner._store.delete(job.id)
        runner._files.delete(job.id)
    else:
        runner.hand_back()
    thread.join(30)
    assert not thread.is_alive()
    if how == "deleted":
        assert runner._store.find(job.id) is None and not runner._files.folder(job.id).exists()
    elif how == "cancelled":
        assert ended(runner, job).status == JobStatus.CANCELLED and "video-1.mp4" not in names(runner, job)
    else:
        assert (ended(runner, job).status, ended(runner, job).tries) == (JobStatus.QUEUED, 0)
        assert runner._store.delete(job.id)
        runner._files.delete(job.id)


def test_files_that_no_job_owns_are_swept_when_they_are_old(runner: JobRunner, given: dict[str, Path]) -> None:
    job = claimed(runner, given, "short")
    lost = runner._files.folder(new_job_id())
    lost.mkdir()
    assert runner._files.sweep(runner._store.ids(), 3600) == [] and lost.exists()
    assert runner._files.sweep(runner._store.ids(), -1) == [lost.name]
    assert names(runner, job) == {IMAGE, "audio-0"} and not lost.exists()


def test_jobs_whose_time_is_over_are_deleted_with_their_files(runner: JobRunner, given: dict[str, Path]) -> None:
    kept, over = claimed(runner, given, "short"), claimed(runner, given, "short")
    assert runner._store.cancel(kept.id, 60) and runner._store.cancel(over.id, -1)
    assert delete_expired(runner._store, runner._files) == 1
    assert runner._store.find(over.id) is None and not runner._files.folder(over.id).exists()
    assert names(runner, kept) == {IMAGE, "audio-0"}
