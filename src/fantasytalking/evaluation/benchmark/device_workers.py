"""Generation on one or several devices: one process each, which takes the next job when it has finished one.

The parent hands the jobs out, so that a process that dies loses a single job.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

import torch

from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.benchmark.generate_case import VideoGenerator, VideoJob
from fantasytalking.evaluation.benchmark.generation_process import serve
from fantasytalking.system.machine import choose_device
from fantasytalking.system.processes import spawning

__all__ = ["Failure", "choose_places", "run_jobs"]


@dataclass(frozen=True)
class Failure:
    """A job without a video, and the reason."""

    job: VideoJob
    reason: str


def choose_places(devices: Sequence[str], workers: int | None) -> tuple[str, ...]:
    """Choose the device of each process.

    Args:
        devices: Names of devices; none means the fastest available one.
        workers: Processes on the CPU, if that is among the devices; None means one.

    Raises:
        SettingsError: There is no such device, or the number of workers is below 1.
    """
    named = list(dict.fromkeys(str(choose_device(name)) for name in devices or ["auto"]))
    if workers is not None and workers < 1:
        raise SettingsError(f"--workers must be at least 1, but {workers} was given.")
    return tuple(place for name in named for place in [name] * (workers or 1 if name == "cpu" else 1))


def run_jobs(jobs: Sequence[VideoJob], places: Sequence[str], advance: Callable[[], None]) -> list[Failure]:
    """Generate videos.

    Args:
        jobs: Jobs in an order that keeps those of one model together.
        places: Device of each process; a single one works in this process.
        advance: Called after each job.

    Returns:
        The jobs that failed.
    """
    if len(places) > 1 and len(jobs) > 1:
        return _run_in_processes(jobs, places, advance)
    failures, generator = [], VideoGenerator(places[0])
    for job in jobs:
        reason = generator.generate(job)
        if reason is not None:
            failures.append(Failure(job, reason))
        advance()
    return failures


class _Worker:
    """A process and its current job."""

    def __init__(self, context: SpawnContext, place: str, threads: int) -> None:
        self._context, self._place, self._threads = context, place, threads
        self.job: VideoJob | None = None
        self._start()

    def _start(self) -> None:
        self.connection, end = self._context.Pipe()
        arguments = (end, self._place, self._threads)
        self._process: BaseProcess = self._context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        # once this copy is closed, the death of the process ends the connection
        end.close()

    def take(self, waiting: deque[VideoJob]) -> None:
        """Give it the next job, if there is one."""
        self.job = waiting.popleft() if waiting else None
        if self.job is not None:
            # a process that is dead already is noticed when its answer is read
            with contextlib.suppress(OSError):
                self.connection.send(self.job)

    def answer(self) -> str | None:
        """Read why the job has no video, or None."""
        try:
            reason: str | None = self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            self._start()
            return f"The process that generated it on {self._place} was ended from outside, perhaps for lack of memory."
        return reason

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _run_in_processes(jobs: Sequence[VideoJob], places: Sequence[str], advance: Callable[[], None]) -> list[Failure]:
    context, waiting, failures = spawning(), deque(jobs), []
    shared = max(1, places.count("cpu"))
    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // shared))
    workers = [_Worker(context, place, threads) for place in places[: len(jobs)]]
    try:
        for worker in workers:
            worker.take(waiting)
        while busy := [worker for worker in workers if worker.job is not None]:
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection not in ready:
                    continue
                job, reason = worker.job, worker.answer()
                assert job is not None
                if reason is not None:
                    failures.append(Failure(job, reason))
                advance()
                worker.take(waiting)
    finally:
        for worker in workers:
            worker.stop()
    return failures
