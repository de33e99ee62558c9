"""The jobs in the database: accepted, claimed, worked on, ended once.

All changes of a state are compare-and-set: an UPDATE names the state (and, from a worker, the fence) that it starts from, and the number of
changed rows says whether it won.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Update, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from fantasytalking.serving.jobs.job_queries import JobQueries, job_of_row, queue_order
from fantasytalking.serving.jobs.job_records import (
    Job,
    JobError,
    JobStatus,
    NewJob,
    VideoFacts,
)
from fantasytalking.serving.jobs.job_tables import CLIENTS, JOBS, lock_queue

__all__ = ["JobStore", "QueueFull", "Recovered"]

_QUEUED, _RUNNING = JobStatus.QUEUED, JobStatus.IN_PROGRESS
_FREE: dict[str, Any] = {"worker": None, "lease_until": None, "stage": None, "seconds_left": None}
"""Columns of a job that nobody works on."""


class QueueFull(Exception):  # noqa: N818 - a state, not a fault
    """There is no room for another job.

    Attributes:
        of_client: Whether it is the client's own share that is used up.
        ahead: Number of jobs that wait or run.
    """

    def __init__(self, of_client: bool, ahead: int) -> None:
        super().__init__()
        self.of_client, self.ahead = of_client, ahead


@dataclasses.dataclass(frozen=True)
class Recovered:
    """A job whose worker died.

    Attributes:
        id: The job.
        worker: Who that was.
        failed: Whether it was the last try; else the job is queued again.
    """

    id: str
    worker: str
    failed: bool


class JobStore(JobQueries):
    """All jobs of a database, and their changes."""

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add(self, new: NewJob, most: int, most_of_client: int) -> tuple[Job, bool]:
        """Accept a job.

        Args:
            new: The job.
            most: Most jobs that may wait or run.
            most_of_client: Most of them of one client.

        Returns:
            The job, and whether it is new: with an idempotency key that was used before, it is the earlier one.

        Raises:
            QueueFull: There is no room.
        """
        try:
            with self._engine.begin() as connection:
                lock_queue(connection)
                known = self._by_key(connection, new)
                if known is not None:
                    return known, False
                _refuse_if_full(connection, new.client, most, most_of_client)
                values = {**dataclasses.asdict(new), "inputs": new.inputs.to_dict(), "notes": list(new.notes)}
                connection.execute(insert(JOBS).values(**values, status=_QUEUED, created_at=time.time()))
                row = connection.execute(select(JOBS).where(JOBS.c.id == new.id)).mappings().one()
                return job_of_row(row), True
        except IntegrityError:
            with self._engine.begin() as connection:
                known = self._by_key(connection, new)
            if known is None:
                raise
            return known, False

    def check_room(self, client: str, most: int, most_of_client: int) -> None:
        """Check that there is room for a job now; the arguments and the error are those of `add`."""
        with self._reads.begin() as connection:
            _refuse_if_full(connection, client, most, most_of_client)

    def claim(self, worker: str, lease: float) -> Job | None:
        """Take the next job in fair order.

        Args:
            worker: Who takes it.
            lease: Seconds after which the worker is taken for dead unless it is heard of.

        Returns:
            The job, in progress, whose fence is the claim's; None where none waits.
        """
        with self._engine.begin() as connection:
            lock_queue(connection)
            job = next(queue_order(connection), None)
            if job is None:
                return None
            now = time.time()
            change = (
                update(JOBS)
                .where(JOBS.c.id == job, JOBS.c.status == _QUEUED)
                .values(
                    status=_RUNNING,
                    fence=JOBS.c.fence + 1,
                    tries=JOBS.c.tries + 1,
                    worker=worker,
                    lease_until=now + lease,
                    started_at=func.coalesce(JOBS.c.started_at, now),
                )
            )
            if not _changes(connection, change):
                return None
            row = connection.execute(select(JOBS).where(JOBS.c.id == job)).mappings().one()
            claimed = job_of_row(row)
            self._mark_client(connection, claimed.client, now)
        return claimed

    def report(
        self, job: Job, lease: float, progress: float, stage: str | None, seconds_left: float | None, preview: int
    ) -> bool:
        """Tell how far a claim is, and that its worker lives; whether the claim still holds.

        Args:
            job: As it was claimed.
            lease: As for `claim`, from now on.
            progress: 0 to 100.
            stage: What is being done.
            seconds_left: Estimate.
            preview: Number of preview pictures.
        """
        change = self._claimed(job).values(
            lease_until=time.time() + lease,
            progress=progress,
            stage=stage,
            seconds_left=seconds_left,
            preview=preview,
        )
        return self._change(change)

    def complete(
        self, job: Job, video: VideoFacts, file: str, settings: dict[str, Any], notes: Sequence[str], keep: float
    ) -> bool:
        """End a claim with its video, which is complete on disk; whether the claim still held.

        Args:
            job: As it was claimed.
            video: What was made.
            file: Name of the video in the job's folder.
            settings: All settings that it was made with.
            notes: Sentences for people.
            keep: Seconds until the job expires.
        """
        now = time.time()
        change = self._claimed(job).values(
            **_FREE,
            status=JobStatus.COMPLETED,
            completed_at=now,
            expires_at=now + keep,
            progress=100.0,
            video=dataclasses.asdict(video),
            video_file=file,
            settings=settings,
            notes=list(notes),
        )
        return self._change(change)

    def fail(self, job: Job, error: JobError, keep: float) -> bool:
        """End a claim with an error; whether the claim still held."""
        return self._change(self._claimed(job).values(**_failed(error, keep)))

    def hand_back(self, job: Job) -> bool:
        """Give up a claim without blame, as at a shutdown: the job is queued again and the try does not count."""
        return self._change(self._claimed(job).values(**_FREE, status=_QUEUED, tries=JOBS.c.tries - 1))

    def recover(self, is_dead: Callable[[str], bool], most_tries: int, keep: float) -> list[Recovered]:
        """Take jobs from dead workers: queue them again, or end them after too many tries.

        Args:
            is_dead: Whether a worker of this name is known to be dead, though its lease still runs.
            most_tries: Most tries of a job.
            keep: Seconds until a job that ends here expires.
        """
        found, now = [], time.time()
        for job in self.running():
            worker = job.worker or ""
            if (job.lease_until or 0.0) > now and not is_dead(worker):
                continue
            failed = job.tries >= most_tries
            change = self._claimed(job)
            if not is_dead(worker):
                # It may have been heard of in between.
                change = change.where(JOBS.c.lease_until <= now)
            if self._change(change.values(**(_failed(_died(job.tries), keep) if failed else _again()))):
                found.append(Recovered(job.id, worker, failed))
        return found

    def cancel(self, job: str, keep: float) -> bool:
        """End a job that has not ended; whether this call did it. A worker finds out with its next report."""
        now = time.time()
        change = (
            update(JOBS)
            .where(JOBS.c.id == job, JOBS.c.status.in_((_QUEUED, _RUNNING)))
            .values(**_FREE, status=JobStatus.CANCELLED, completed_at=now, expires_at=now + keep)
        )
        return self._change(change)

    def delete(self, job: str) -> bool:
        """Forget a job, in whatever state; whether there was one."""
        with self._engine.begin() as connection:
            return connection.execute(delete(JOBS).where(JOBS.c.id == job)).rowcount == 1

    def _change(self, change: Update) -> bool:
        with self._engine.begin() as connection:
            return _changes(connection, change)

    @staticmethod
    def _claimed(job: Job) -> Update:
        return update(JOBS).where(JOBS.c.id == job.id, JOBS.c.status == _RUNNING, JOBS.c.fence == job.fence)

    @staticmethod
    def _by_key(connection: Connection, new: NewJob) -> Job | None:
        if new.idempotency_key is None:
            return None
        query = select(JOBS).where(JOBS.c.client == new.client, JOBS.c.idempotency_key == new.idempotency_key)
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else job_of_row(row)

    @staticmethod
    def _mark_client(connection: Connection, client: str, now: float) -> None:
        known = update(CLIENTS).where(CLIENTS.c.name == client).values(last_started=now)
        if not _changes(connection, known):
            connection.execute(insert(CLIENTS).values(name=client, last_started=now))


def _refuse_if_full(connection: Connection, client: str, most: int, most_of_client: int) -> None:
    active = select(JOBS.c.client, func.count()).where(JOBS.c.status.in_((_QUEUED, _RUNNING))).group_by(JOBS.c.client)
    counts = {name: int(count) for name, count in connection.execute(active)}
    total = sum(counts.values())
    if counts.get(client, 0) >= most_of_client:
        raise QueueFull(True, total)
    if total >= most:
        raise QueueFull(False, total)


def _changes(connection: Connection, change: Update) -> bool:
    return connection.execute(change).rowcount == 1


def _again() -> dict[str, Any]:
    return {**_FREE, "status": _QUEUED}


def _failed(error: JobError, keep: float) -> dict[str, Any]:
    now = time.time()
    return {
        **_FREE,
        "status": JobStatus.FAILED,
        "completed_at": now,
        "expires_at": now + keep,
        "error": dataclasses.asdict(error),
    }


def _died(tries: int) -> JobError:
    return JobError(
        "worker_died",
        f"The process that generated it ended {tries} times before the video was complete, perhaps for lack of memory; try a shorter "
        "speech or a smaller longest_side.",
    )
