"""`/healthz`, `/readyz` and `/metrics`: whether the server lives, whether it can take jobs, and its numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from fantasytalking.serving.jobs.job_queries import JobQueries
from fantasytalking.serving.operations.metrics import METRICS_TYPE, Metrics

__all__ = ["Readiness", "operations_routes"]


class _Event(Protocol):
    def is_set(self) -> bool: ...


class Health(BaseModel):
    """Whether the server lives."""

    status: str


class Ready(BaseModel):
    """Whether the server can take jobs: each check is `ok`, or what is wrong."""

    status: str
    checks: dict[str, str]


class Readiness:
    """The checks.

    Args:
        store: The jobs.
        data: The data folder.
        disk_free_bytes: Room below which no job is accepted.
        alive: Number of workers that run.
        closing: Set when the server is to end.
    """

    def __init__(
        self, store: JobQueries, data: Path, disk_free_bytes: int, alive: Callable[[], int], closing: _Event
    ) -> None:
        self._store, self._data, self._least, self._alive, self._closing = store, data, disk_free_bytes, alive, closing

    def checks(self) -> dict[str, str]:
        """Name of each check -> `ok`, or what is wrong."""
        return {
            "server": "stopping" if self._closing.is_set() else "ok",
            "database": self._database(),
            "workers": "ok" if self._alive() > 0 else "no worker runs",
            "disk": self._disk(),
        }

    def _database(self) -> str:
        try:
            self._store.has_queued()
        except Exception as error:  # drivers raise their own kinds; the address of a database is not for everyone
            return f"not reachable ({type(error).__name__})"
        return "ok"

    def _disk(self) -> str:
        try:
            free = shutil.disk_usage(self._data).free
        except OSError as error:
            return f"the data folder is not reachable ({type(error).__name__})"
        return "ok" if free >= self._least else f"only {free // 2**20} MiB are free"


def operations_routes(readiness: Readiness, metrics: Metrics) -> APIRouter:
    """The routes.

    Args:
        readiness: Checks of the server.
        metrics: Its numbers.
    """
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz", summary="Whether the server lives")
    async def healthz() -> Health:
        return Health(status="ok")

    @routes.get(
        "/readyz",
        summary="Whether the server can take jobs",
        response_model=Ready,
        responses={503: {"model": Ready, "description": "It cannot."}},
    )
    async def readyz() -> JSONResponse:
        checks = await run_in_threadpool(readiness.checks)
        good = all(result == "ok" for result in checks.values())
        return JSONResponse(
            Ready(status="ready" if good else "not ready", checks=checks).model_dump(), 200 if good else 503
        )

    @routes.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def numbers() -> Response:
        return Response(await run_in_threadpool(metrics.text), media_type=METRICS_TYPE)

    return routes
