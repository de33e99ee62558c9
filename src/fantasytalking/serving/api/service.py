"""What the routes share: settings, jobs, files and workers of a running server."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastapi import Request

from fantasytalking.serving.api.accept_video import VideoDesk
from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.identity import client_of
from fantasytalking.serving.api.video_objects import VideoObject, video_object
from fantasytalking.serving.jobs.job_files import JobFiles, is_job_id
from fantasytalking.serving.jobs.job_records import Job, JobStatus
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.server_settings import ServerSettings

__all__ = ["Service", "Workers", "request_id_of", "service_of"]

_PLACES_SECONDS = 0.5


class Workers(Protocol):
    """Whoever runs the workers."""

    @property
    def alive(self) -> int:
        """Number of workers that run."""

    def start(self) -> None:
        """Start the workers."""

    def stop(self, seconds: float) -> None:
        """Let the workers finish within a time, and give their jobs back after it."""


@dataclass
class Service:
    """A running server; the routes find it at `request.app.state.service`.

    Attributes:
        settings: Its settings.
        store: The jobs.
        files: Their files.
        desk: Accepts jobs.
        workers: Whoever runs them.
        closing: Set when the server is to end; streams of events end with it.
    """

    settings: ServerSettings
    store: JobStore
    files: JobFiles
    desk: VideoDesk
    workers: Workers
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _places: tuple[float, dict[str, int]] = (0.0, {})

    def job_of(self, request: Request, job: str) -> Job:
        """A job of the client of a request.

        Raises:
            ApiError: There is none, or it is another's.
        """
        found = self.store.find(job) if is_job_id(job) else None
        if found is None or found.client != client_of(request.scope):
            raise ApiError(404, "not_found", "There is no such video; it may have been deleted, or its time is over.")
        return found

    def video_of(self, job: Job) -> Path:
        """The video of a job.

        Raises:
            ApiError: There is none yet, or it is gone.
        """
        if job.status != JobStatus.COMPLETED or job.video_file is None:
            why = "failed" if job.status == JobStatus.FAILED else f"is {job.status}"
            raise ApiError(409, "not_ready", f"There is no video: the job {why}; see /v1/videos/{job.id}.")
        path = self.files.folder(job.id) / job.video_file
        if not path.is_file():
            raise ApiError(404, "not_found", "The video is gone.")
        return path

    def shown(self, job: Job) -> VideoObject:
        """A job as the API shows it."""
        waits = job.status == JobStatus.QUEUED
        return video_object(job, self.places(job.id).get(job.id) if waits else None)

    def places(self, wanted: str | None = None) -> dict[str, int]:
        """Id of each queued job -> its place, at most half a second old: many clients ask, and the answer takes reading the whole queue.

        Args:
            wanted: A job that must be in it, if it waits.
        """
        until, found = self._places
        if time.monotonic() > until or (wanted is not None and wanted not in found):
            found = self.store.positions()
            self._places = time.monotonic() + _PLACES_SECONDS, found
        return found


def service_of(request: Request) -> Service:
    """The server of a request."""
    found: Service = request.app.state.service
    return found


def request_id_of(request: Request) -> str:
    """The id of a request, or a new one where no layer gave it any."""
    return str(request.scope.get("state", {}).get("request_id") or f"req_{secrets.token_hex(8)}")
