"""Starts the workers of a server, replaces those that die, and gives their jobs to others."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.workers.worker_names import is_dead_here
from fantasytalking.serving.workers.worker_options import WorkerOptions

__all__ = ["Supervisor", "recover_jobs"]

_BEAT = 0.5
_LONGEST_PAUSE = 30.0
"""Most seconds between two starts of a worker that dies again and again."""
_LAST_SECONDS = 5.0
"""Seconds that a worker has to give its job back before it is killed."""

_log = logging.getLogger("fantasytalking.serving.supervisor")


def recover_jobs(store: JobStore, settings: ServerSettings) -> None:
    """Take jobs from dead workers."""
    for job in store.recover(is_dead_here, settings.tries, settings.retention_hours * 3600):
        what = "it was its last try" if job.failed else "it is queued again"
        _log.warning("job %s: its worker died; %s", job.id, what)


@dataclass
class _Place:
    """Where a worker runs.

    Attributes:
        device: Its device.
        process: The worker; None before the first.
        failures: Starts in a row after which it did not live long.
        due: When it may be started, on the monotonic clock.
        started: When it was.
    """

    device: str
    process: subprocess.Popen[str] | None = None
    failures: int = 0
    due: float = 0.0
    started: float = 0.0


class Supervisor:
    """The workers of a server, in a thread of its own.

    Args:
        settings: Of the server.
        store: The jobs.
    """

    def __init__(self, settings: ServerSettings, store: JobStore) -> None:
        self._settings, self._store = settings, store
        self._places = [_Place(device) for device in settings.devices for _ in range(settings.workers)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the workers."""
        self._thread.start()

    @property
    def alive(self) -> int:
        """Number of workers that run."""
        return len(self.process_ids)

    @property
    def process_ids(self) -> list[int]:
        """Numbers of the processes of the workers that run."""
        processes = [place.process for place in self._places]
        return [one.pid for one in processes if one is not None and one.poll() is None]

    def stop(self, seconds: float) -> None:
        """Let the workers finish their jobs within a time, and give them back after it.

        Args:
            seconds: The time.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        running = [place.process for place in self._places if place.process is not None]
        for command, patience in (("stop", seconds), ("hand back", _LAST_SECONDS)):
            for process in running:
                _tell(process, command)
            until = time.monotonic() + patience
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until - time.monotonic()))
            running = [process for process in running if process.poll() is None]
            if not running:
                return
        for process in running:
            process.kill()
            process.wait()
        recover_jobs(self._store, self._settings)

    def _watch(self) -> None:
        while True:
            for place in self._places:
                self._look_at(place)
            try:
                recover_jobs(self._store, self._settings)
            except Exception as error:  # the database may be away for a while
                _log.warning("the database does not answer (%s)", type(error).__name__)
            if self._stop.wait(_BEAT):
                return

    def _look_at(self, place: _Place) -> None:
        if place.process is not None and place.process.poll() is not None:
            lived = time.monotonic() - place.started
            place.failures = 0 if lived > _LONGEST_PAUSE else place.failures + 1
            pause = min(_LONGEST_PAUSE, 0.25 * 2**place.failures) if place.failures > 3 else 0.0
            _log.warning(
                "the worker on %s ended with status %d; another one starts in %.0f s",
                place.device,
                place.process.returncode,
                pause,
            )
            _close(place.process)
            place.process, place.due = None, time.monotonic() + pause
        if place.process is None and time.monotonic() >= place.due:
            place.process, place.started = _started(WorkerOptions.of(self._settings, place.device)), time.monotonic()


def _started(options: WorkerOptions) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fantasytalking.serving.workers.worker_process"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    _tell(process, options.to_json())
    return process


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    # It may have died meanwhile, which the next look finds out.
    with contextlib.suppress(OSError, ValueError):
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
