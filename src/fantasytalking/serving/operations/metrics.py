"""Metrics for Prometheus: requests, queue, jobs, durations, memory, room on the disk.

| metric | labels | what |
|---|---|---|
| `fantasytalking_requests_total` | method, route, status | requests that ended |
| `fantasytalking_request_seconds` | method, route | how long they took |
| `fantasytalking_jobs` | status | jobs in each state, those that are kept |
| `fantasytalking_queue_length` | | jobs that wait |
| `fantasytalking_queue_oldest_seconds` | | how long the oldest of them has waited |
| `fantasytalking_job_waiting_seconds` | | from acceptance to the first try |
| `fantasytalking_job_seconds` | status | from the first try to the end |
| `fantasytalking_stage_seconds_total` | stage | time that jobs spent in each stage, looked at once a second |
| `fantasytalking_workers` | | workers that run |
| `fantasytalking_memory_bytes` | process | resident memory of the server and of its workers |
| `fantasytalking_disk_free_bytes` | | room on the disk of the data folder |
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from fantasytalking.serving.jobs.job_queries import JobQueries
from fantasytalking.serving.jobs.job_records import Job, JobStatus

__all__ = ["METRICS_TYPE", "Metrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LOOK_SECONDS = 1.0
_JOB_BUCKETS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200)
_REQUEST_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """The numbers of one server.

    Args:
        store: Its jobs.
        data: Its data folder.
        alive: Number of workers that run.
    """

    def __init__(self, store: JobQueries, data: Path, alive: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._store, self._data, self._alive = store, data, alive
        self._requests = Counter(
            "fantasytalking_requests", "Requests that ended.", ("method", "route", "status"), registry=self.registry
        )
        self._request_seconds = Histogram(
            "fantasytalking_request_seconds",
            "How long requests took.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._waiting = Histogram(
            "fantasytalking_job_waiting_seconds",
            "From the acceptance of a job to its first try.",
            buckets=_JOB_BUCKETS,
            registry=self.registry,
        )
        self._running = Histogram(
            "fantasytalking_job_seconds",
            "From the first try of a job to its end.",
            ("status",),
            buckets=_JOB_BUCKETS,
            registry=self.registry,
        )
        self._stages = Counter(
            "fantasytalking_stage_seconds", "Time that jobs spent in each stage.", ("stage",), registry=self.registry
        )
        self.registry.register(_States(self))
        self._known: dict[str, Job] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to look at the jobs."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that ended."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def look(self, seconds: float) -> None:
        """Look at the jobs that run, and at those that ran when they were last looked at.

        Args:
            seconds: Since the last look.
        """
        running = {job.id: job for job in self._store.running()}
        for job in running.values():
            self._stages.labels(job.stage or "none").inc(seconds)
            if job.id not in self._known and job.tries == 1 and job.started_at is not None:
                self._waiting.observe(max(0.0, job.started_at - job.created_at))
        for gone in self._known.keys() - running.keys():
            ended = self._store.find(gone)
            if ended is not None and ended.is_ended and ended.completed_at and ended.started_at:
                self._running.labels(str(ended.status)).observe(max(0.0, ended.completed_at - ended.started_at))
        self._known = running

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(_LOOK_SECONDS):
            now = time.monotonic()
            try:
                self.look(now - before)
            except Exception:  # the database may be away; readiness tells that
                continue
            finally:
                before = now

    def states(self) -> Iterable[Metric]:
        """What is read when someone asks for it."""
        jobs = GaugeMetricFamily("fantasytalking_jobs", "Jobs in each state.", labels=["status"])
        counts = self._store.counts()
        for status in JobStatus:
            jobs.add_metric([str(status)], counts[status])
        yield jobs
        yield GaugeMetricFamily("fantasytalking_queue_length", "Jobs that wait.", counts[JobStatus.QUEUED])
        oldest = self._store.oldest_queued()
        waited = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        yield GaugeMetricFamily(
            "fantasytalking_queue_oldest_seconds", "How long the oldest of them has waited.", waited
        )
        yield GaugeMetricFamily("fantasytalking_workers", "Workers that run.", self._alive())
        memory = GaugeMetricFamily("fantasytalking_memory_bytes", "Resident memory.", labels=["process"])
        for name, size in _memory().items():
            memory.add_metric([name], size)
        yield memory
        free = shutil.disk_usage(self._data).free
        yield GaugeMetricFamily("fantasytalking_disk_free_bytes", "Room on the disk of the data folder.", free)


class _States:
    """What the registry asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would ask the database to find out names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The states of now."""
        return self._metrics.states()


def _memory() -> dict[str, int]:
    """Resident memory in bytes of this process and of those that it started, workers above all."""
    own = psutil.Process()
    found = {"server": own.memory_info().rss, "workers": 0}
    for child in own.children(recursive=True):
        try:
            found["workers"] += child.memory_info().rss
        except psutil.Error:
            # it ended meanwhile
            continue
    return found
