"""The application: routes, errors and the life of a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from fantasytalking.errors import MissingDependencyError
from fantasytalking.serving.api.accept_video import VideoDesk
from fantasytalking.serving.api.access import protect
from fantasytalking.serving.api.api_errors import add_error_handlers
from fantasytalking.serving.api.head_requests import HeadRequests
from fantasytalking.serving.api.information import information_routes
from fantasytalking.serving.api.service import Service, Workers
from fantasytalking.serving.api.speech_synthesis import speech_routes
from fantasytalking.serving.api.verifying import verifying_routes
from fantasytalking.serving.api.video_events import event_routes
from fantasytalking.serving.api.video_request import request_body_schema
from fantasytalking.serving.api.videos import video_routes
from fantasytalking.serving.jobs.job_files import JobFiles
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.jobs.job_tables import open_database
from fantasytalking.serving.jobs.retention import Retention
from fantasytalking.serving.offered_models import default_settings, offered_models
from fantasytalking.serving.operations.health import Readiness, operations_routes
from fantasytalking.serving.operations.metrics import Metrics
from fantasytalking.serving.operations.request_log import RequestLog
from fantasytalking.serving.page.page_files import add_page
from fantasytalking.serving.realtime.live_pool import LivePool
from fantasytalking.serving.realtime.live_socket import realtime_routes
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.workers.supervisor import Supervisor

__all__ = ["create_app"]


def create_app(settings: ServerSettings, workers: Workers | None = None) -> FastAPI:
    """The application of a server, which starts its workers and ends them.

    Args:
        settings: Of the server.
        workers: Whoever runs the workers; None: those of `settings.engine`.

    Raises:
        SettingsError: A setting, the database or a model cannot be used.
        OutputError: The data folder cannot be written.
    """
    from fantasytalking import __version__

    models = offered_models(settings)
    usual = default_settings(settings)
    files = JobFiles(settings.data)
    store = JobStore(open_database(settings.database_url))
    service = Service(settings, store, files, VideoDesk(settings, store, files), workers or _workers(settings, store))
    metrics = Metrics(store, settings.data, lambda: service.workers.alive)
    readiness = Readiness(
        store, settings.data, settings.disk_free_bytes, lambda: service.workers.alive, service.closing
    )

    live = LivePool(settings)

    app = FastAPI(
        title="FantasyTalking",
        version=__version__,
        description="A portrait talks: image and speech to video.",
        lifespan=lambda app: _life(service, metrics, live),
        root_path=settings.root_path,
        # Their pages load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.metrics = service, metrics
    app.include_router(video_routes(request_body_schema(usual, models)))
    app.include_router(event_routes())
    app.include_router(verifying_routes())
    app.include_router(information_routes())
    app.include_router(realtime_routes(settings, live))
    app.include_router(operations_routes(readiness, metrics))
    app.include_router(speech_routes())
    if settings.page:
        add_page(app)
    add_error_handlers(app, settings.data)
    app.add_middleware(HeadRequests)
    protect(app, settings)
    app.add_middleware(RequestLog, metrics=metrics)
    return app


@asynccontextmanager
async def _life(service: Service, metrics: Metrics, live: LivePool) -> AsyncIterator[None]:
    """What runs beside the requests."""
    retention = Retention(service.store, service.files)
    retention.start()
    service.workers.start()
    metrics.start()
    yield
    service.closing.set()
    await live.close()
    await run_in_threadpool(metrics.stop)
    await run_in_threadpool(service.workers.stop, service.settings.stop_seconds)
    await run_in_threadpool(retention.stop)
    service.store.close()


def _workers(settings: ServerSettings, store: JobStore) -> Workers:
    if settings.engine == "processes":
        return Supervisor(settings, store)
    # Ray Serve reads it when it is imported. A replica that computes on all cores answers later than the usual second, and would be taken
    # for unreachable.
    os.environ.setdefault("RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "10")
    os.environ.setdefault("RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "5")
    try:
        from fantasytalking.serving.workers.ray_workers import RayWorkers
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The engine ray needs the package {error.name}; install it with pip install 'fantasytalking[cluster]'."
        ) from error
    return RayWorkers(settings, store)
