"""`GET /v1/videos/{id}/events`: how a job goes on, as server-sent events.

| event | data |
|---|---|
| `update` | the job, whenever it has changed |
| `preview` | `{"number", "jpeg"}`, the newest frame in base64 |
| `end` | the job in its final state; after it the server closes the stream |
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from fantasytalking.serving.api.api_errors import ApiError, error_responses
from fantasytalking.serving.api.service import Service, service_of

__all__ = ["event_routes"]

_PAUSE = 0.4
"""Seconds between two looks at a job."""
_COMMENT = 15.0
"""Seconds of silence after which a comment tells proxies that the stream lives."""
_RETRY = 2000
"""Milliseconds after which a browser that lost the stream asks again."""


def event_routes() -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1/videos", tags=["videos"])

    @routes.get(
        "/{video_id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events."}, **error_responses(404)},
        summary="Progress as server-sent events",
    )
    async def get_events(request: Request, video_id: str) -> StreamingResponse:
        service = service_of(request)
        # Before the stream begins, so that an unknown job is a plain 404.
        await run_in_threadpool(service.job_of, request, video_id)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(service, request, video_id), media_type="text/event-stream", headers=headers)

    return routes


async def _events(service: Service, request: Request, video: str) -> AsyncIterator[str]:
    yield f"retry: {_RETRY}\n\n"
    shown, preview, spoken = None, 0, time.monotonic()
    while not service.closing.is_set():
        try:
            job = await run_in_threadpool(service.job_of, request, video)
        except ApiError:
            # It was deleted meanwhile.
            return
        state = (await run_in_threadpool(service.shown, job)).model_dump(mode="json")
        if job.preview > preview and not job.is_ended:
            picture = await run_in_threadpool(_preview, service, job.id)
            if picture is not None:
                yield _event("preview", {"number": job.preview, "jpeg": picture})
            preview, spoken = job.preview, time.monotonic()
        if job.is_ended:
            yield _event("end", state)
            return
        if state != shown:
            yield _event("update", state)
            shown, spoken = state, time.monotonic()
        elif time.monotonic() - spoken > _COMMENT:
            yield ": still here\n\n"
            spoken = time.monotonic()
        await asyncio.sleep(_PAUSE)


def _preview(service: Service, job: str) -> str | None:
    try:
        return base64.b64encode(service.files.preview(job).read_bytes()).decode()
    except OSError:
        return None


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
