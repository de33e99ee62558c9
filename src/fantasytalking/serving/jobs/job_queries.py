"""What the job database knows, without changing it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, RowMapping, func, select

from fantasytalking.serving.jobs.fair_order import fair_order
from fantasytalking.serving.jobs.job_records import ENDED, Job, JobError, JobInputs, JobStatus, Mode, VideoFacts
from fantasytalking.serving.jobs.job_tables import CLIENTS, JOBS, reading

__all__ = ["JobQueries", "job_of_row", "queue_order"]


class JobQueries:
    """Questions to the database; one object may be used by several threads.

    Args:
        engine: Of `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = reading(engine)

    def find(self, job: str) -> Job | None:
        """A job by its id."""
        with self._reads.begin() as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.id == job)).mappings().one_or_none()
        return None if row is None else job_of_row(row)

    def holds(self, claimed: Job) -> bool:
        """Whether a claim still holds: the job runs, and nobody claimed it since."""
        found = self.find(claimed.id)
        return found is not None and (found.status, found.fence) == (JobStatus.IN_PROGRESS, claimed.fence)

    def by_key(self, client: str, key: str) -> Job | None:
        """The job of an idempotency key."""
        query = select(JOBS).where(JOBS.c.client == client, JOBS.c.idempotency_key == key)
        with self._reads.begin() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else job_of_row(row)

    def page(
        self, client: str, limit: int, after: str | None, descending: bool, status: JobStatus | None
    ) -> tuple[list[Job], bool]:
        """Some jobs of a client, by their time.

        Args:
            client: Whose.
            limit: Most of them.
            after: Begin after this job.
            descending: Whether the newest comes first.
            status: Only jobs in this state.

        Returns:
            The jobs, and whether there are more.
        """
        query = select(JOBS).where(JOBS.c.client == client)
        if status is not None:
            query = query.where(JOBS.c.status == status)
        if after is not None:
            number = select(JOBS.c.number).where(JOBS.c.id == after, JOBS.c.client == client).scalar_subquery()
            query = query.where(JOBS.c.number < number if descending else JOBS.c.number > number)
        query = query.order_by(JOBS.c.number.desc() if descending else JOBS.c.number).limit(limit + 1)
        with self._reads.begin() as connection:
            rows = connection.execute(query).mappings().all()
        return [job_of_row(row) for row in rows[:limit]], len(rows) > limit

    def positions(self) -> dict[str, int]:
        """Id of each queued job -> its place in the queue, counted from 1."""
        with self._reads.begin() as connection:
            return {job: number for number, job in enumerate(queue_order(connection), 1)}

    def has_queued(self) -> bool:
        """Whether a job waits."""
        with self._reads.begin() as connection:
            return (
                connection.execute(select(JOBS.c.id).where(JOBS.c.status == JobStatus.QUEUED).limit(1)).first()
                is not None
            )

    def oldest_queued(self) -> float | None:
        """When the oldest job that waits was accepted, in seconds since 1970; None where none waits."""
        query = select(func.min(JOBS.c.created_at)).where(JOBS.c.status == JobStatus.QUEUED)
        with self._reads.begin() as connection:
            found = connection.scalar(query)
        return None if found is None else float(found)

    def counts(self) -> dict[JobStatus, int]:
        """Number of jobs in each state."""
        with self._reads.begin() as connection:
            rows = connection.execute(select(JOBS.c.status, func.count()).group_by(JOBS.c.status))
            found = {JobStatus(status): int(count) for status, count in rows}
        return {status: found.get(status, 0) for status in JobStatus}

    def usual_seconds(self) -> float | None:
        """How long the newest completed jobs took on average; None where there is none."""
        newest = (
            select(JOBS.c.completed_at - JOBS.c.started_at)
            .where(JOBS.c.status == JobStatus.COMPLETED)
            .order_by(JOBS.c.number.desc())
            .limit(20)
        )
        with self._reads.begin() as connection:
            took = [float(row[0]) for row in connection.execute(newest)]
        return sum(took) / len(took) if took else None

    def ids(self) -> set[str]:
        """Ids of all jobs."""
        with self._reads.begin() as connection:
            return set(connection.scalars(select(JOBS.c.id)))

    def running(self) -> list[Job]:
        """Jobs at work."""
        query = select(JOBS).where(JOBS.c.status == JobStatus.IN_PROGRESS)
        with self._reads.begin() as connection:
            return [job_of_row(row) for row in connection.execute(query).mappings()]

    def expired(self) -> list[str]:
        """Ids of jobs whose time of retention is over."""
        query = select(JOBS.c.id).where(JOBS.c.status.in_(ENDED), JOBS.c.expires_at <= time.time())
        with self._reads.begin() as connection:
            return list(connection.scalars(query))


def queue_order(connection: Connection) -> Iterator[str]:
    """Ids of the queued jobs, the next to begin first."""
    queued = connection.execute(
        select(JOBS.c.id, JOBS.c.client).where(JOBS.c.status == JobStatus.QUEUED).order_by(JOBS.c.number)
    ).all()
    running = connection.execute(
        select(JOBS.c.client, func.count()).where(JOBS.c.status == JobStatus.IN_PROGRESS).group_by(JOBS.c.client)
    )
    last = connection.execute(select(CLIENTS.c.name, CLIENTS.c.last_started))
    return fair_order(
        [(str(job), str(client)) for job, client in queued],
        {str(client): int(count) for client, count in running},
        {str(client): float(at) for client, at in last},
    )


def job_of_row(row: RowMapping) -> Job:
    """The job of a row."""
    values = dict(row)
    error, video = values.pop("error"), values.pop("video")
    return Job(
        **{
            **values,
            "status": JobStatus(values["status"]),
            "mode": Mode(values["mode"]),
            "inputs": JobInputs.from_dict(values["inputs"]),
            "notes": tuple(values["notes"]),
        },
        error=None if error is None else JobError(**error),
        video=None if video is None else VideoFacts(**video),
    )
