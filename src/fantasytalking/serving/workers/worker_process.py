"""`python -m fantasytalking.serving.workers.worker_process`: claims jobs and generates their videos until it is told to stop.

The first line of its standard input has its options; further lines are commands of the server, and its end means that the server is gone.

| line | what the worker does |
|---|---|
| `stop` | finishes its job and ends |
| `hand back` | gives its job back and ends |
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from sqlalchemy.exc import SQLAlchemyError

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.media.container import restrict_media
from fantasytalking.pipeline.progress import quiet_frameworks
from fantasytalking.serving.jobs.job_files import JobFiles
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.jobs.job_tables import open_database
from fantasytalking.serving.operations.structured_logs import configure_logs
from fantasytalking.serving.uploads.file_kinds import MEDIA_FORMATS
from fantasytalking.serving.workers.job_run import JobRunner
from fantasytalking.serving.workers.worker_names import worker_name
from fantasytalking.serving.workers.worker_options import LEASE_SECONDS, WorkerOptions
from fantasytalking.system.startup import importing_frameworks

__all__ = ["Worker", "import_frameworks", "main"]

_PAUSE = 0.3
"""Seconds between two looks at an empty queue."""

_log = logging.getLogger("fantasytalking.serving.worker")


class Worker:
    """Claims jobs, one after the other.

    Args:
        options: How it runs.
        server: Part of its name, see `worker_name`.
    """

    def __init__(self, options: WorkerOptions, server: str = "") -> None:
        self.store = JobStore(open_database(options.database))
        self.runner = JobRunner(self.store, JobFiles(options.data), options)
        self.stopping = threading.Event()
        self._name = worker_name(server)

    def work(self) -> None:
        """Work until the worker is told to stop."""
        while not self.stopping.is_set():
            try:
                worked = self.store.has_queued() and self.work_once()
            except SQLAlchemyError as error:  # the database may be away for a while
                _log.warning("the database does not answer (%s)", type(error).__name__)
                worked = False
            if not worked:
                self.stopping.wait(_PAUSE)

    def work_once(self) -> bool:
        """Claim a job and try it; False where none waits."""
        job = self.store.claim(self._name, LEASE_SECONDS)
        if job is None:
            return False
        _log.info("job %s: try %d", job.id, job.tries)
        self.runner.run(job)
        return True

    def obey(self) -> None:
        """Follow the server's commands; ends the process when the server is gone."""
        for line in sys.stdin:
            self.stopping.set()
            if line.strip() == "hand back":
                self.runner.hand_back()
        try:
            self.runner.hand_back_now()
        finally:
            os._exit(1)


def import_frameworks() -> None:
    """Import what every job needs, before one waits for it."""
    with importing_frameworks():
        quiet_frameworks()
        import fantasytalking.pipeline.pipeline  # noqa: F401


def main() -> int:
    """Run a worker."""
    # Ctrl-C, and the stop of a service manager, reach all processes; the server alone answers them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        options = WorkerOptions.from_json(sys.stdin.readline())
        configure_logs(options.log_format, options.log_level)
        restrict_media(MEDIA_FORMATS, options.video_pixels)
        worker = Worker(options)
    except FantasyTalkingError as error:
        _log.error("%s", error)
        return error.exit_code
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    threading.Thread(target=worker.obey, daemon=True).start()
    import_frameworks()
    worker.work()
    # Threads of the frameworks, and the one that reads the input, would hold up an orderly end.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
