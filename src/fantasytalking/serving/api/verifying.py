"""`POST /v1/verify` and `POST /v1/videos/{id}/verify`: whether a video is marked as made by a model, and whether its marks hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from fantasytalking.errors import InputError
from fantasytalking.serving.api.api_errors import api_error, error_responses
from fantasytalking.serving.api.one_file import one_file, one_file_body
from fantasytalking.serving.api.service import service_of
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.check_upload import verify_result, verify_upload
from fantasytalking.verification import Verification

__all__ = ["verifying_routes"]

_FIELD = "video_reference"


def verifying_routes() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["verification"])

    @routes.post(
        "/verify",
        response_model=Verification,
        responses=error_responses(400, 413, 415, 422, 507),
        openapi_extra=one_file_body(_FIELD),
        summary="The marks of any video, which is not kept",
    )
    async def verify_video(request: Request) -> JSONResponse:
        async with one_file(request, _FIELD, "video") as video:
            return await _answer(request, verify_upload, video)

    @routes.post(
        "/videos/{video_id}/verify",
        response_model=Verification,
        responses=error_responses(404, 409, 422),
        summary="The marks of a finished video",
    )
    async def verify_made_video(request: Request, video_id: str) -> JSONResponse:
        service = service_of(request)
        job = await run_in_threadpool(service.job_of, request, video_id)
        return await _answer(request, verify_result, service.video_of(job))

    return routes


async def _answer(request: Request, look: Callable[[Path, ServerSettings], Verification], video: Path) -> JSONResponse:
    service = service_of(request)
    try:
        found = await to_thread.run_sync(look, video, service.settings, limiter=service.desk.heavy)
    except InputError as error:
        raise api_error(error, video.parent, _FIELD) from error
    return JSONResponse(found.summary())
