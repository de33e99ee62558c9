"""Deleting what is kept no longer: jobs whose time is over, and files that no job owns."""

from __future__ import annotations

import logging
import threading

from fantasytalking.serving.jobs.job_files import JobFiles
from fantasytalking.serving.jobs.job_store import JobStore

__all__ = ["Retention", "delete_expired"]

_PAUSE = 30.0
_ABANDONED = 7200.0
"""Age in seconds of a folder without a job; requests may take long to send their files."""

_log = logging.getLogger("fantasytalking.serving.retention")


def delete_expired(store: JobStore, files: JobFiles, abandoned: float = _ABANDONED) -> int:
    """Delete jobs whose time is over, with their files, and folders that no job owns; the number of jobs.

    Args:
        store: The jobs.
        files: Their files.
        abandoned: Age in seconds of a folder without a job.
    """
    expired = store.expired()
    for job in expired:
        store.delete(job)
        files.delete(job)
    files.sweep(store.ids(), abandoned)
    return len(expired)


class Retention:
    """Deletes now and then, in a thread of its own."""

    def __init__(self, store: JobStore, files: JobFiles) -> None:
        self._store, self._files = store, files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                count = delete_expired(self._store, self._files)
                if count:
                    _log.info("%d jobs deleted whose time was over", count)
            except Exception as error:  # the database may be away, or a file in use; the next time will do
                _log.warning("expired jobs could not be deleted (%s)", type(error).__name__)
            if self._stop.wait(_PAUSE):
                return
