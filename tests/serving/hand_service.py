"""A server whose jobs the test ends itself, in place of a worker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.jobs.job_files import JobFiles
from fantasytalking.serving.jobs.job_records import JobError, VideoFacts
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.server_settings import ServerSettings

__all__ = ["FILM", "Hand", "HandService"]

FILM = bytes(range(256)) * 4000
"""What the server gives for a video, unless `Hand.film` is another."""


class Hand:
    """In place of a worker: claims jobs and ends them as it is told to."""

    def __init__(self, store: JobStore, files: JobFiles) -> None:
        self.store, self.files = store, files
        self.error: JobError | None = None
        self.film = FILM
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.alive = 1

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(0.05):
            job = self.store.claim("hand", 30.0)
            if job is None:
                continue
            self.store.report(job, 30.0, 40.0, "sampling", 1.0, 0)
            if self._stop.wait(0.6):
                return
            if self.error is not None:
                self.store.fail(job, self.error, 3600.0)
                continue
            path = self.files.video(job.id, job.fence)
            if not path.parent.is_dir():
                # deleted meanwhile
                continue
            path.write_bytes(self.film)
            facts = VideoFacts(64, 48, 23.0, 23, 1.0, len(self.film))
            self.store.complete(job, facts, path.name, job.settings, ["A note."], 3600.0)


class HandService:
    """A server, and what its test changes."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = ServerSettings(data=folder, requests_per_minute=10_000, **settings)
        self.app = create_app(self.settings)
        service = self.app.state.service
        self.hand = Hand(service.store, service.files)
        service.workers = self.hand
        self.store: JobStore = service.store
