"""`/v1/videos`: jobs and their videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from fantasytalking.media.image import load_image
from fantasytalking.serving.api.accept_video import Sender
from fantasytalking.serving.api.api_errors import ApiError, error_responses
from fantasytalking.serving.api.identity import client_of
from fantasytalking.serving.api.service import request_id_of, service_of
from fantasytalking.serving.api.stored_file import StoredFile
from fantasytalking.serving.api.video_objects import DeletedVideo, VideoList, VideoObject, stored_inputs, video_object
from fantasytalking.serving.jobs.job_files import FOOTAGE
from fantasytalking.serving.jobs.job_records import Job, JobStatus
from fantasytalking.serving.uploads.file_kinds import content_type

__all__ = ["video_routes"]

_THUMBNAIL = 512
_QUALITY = 85
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "A JPEG."}}
_INPUT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {kind: {} for kind in ("image/png", "audio/*", "video/*", "application/octet-stream")},
        "description": "The file. A picture is a PNG of the pixels that were sent; sound and footage are as they were sent.",
    },
    206: {"description": "The range that was asked for."},
    304: {"description": "The client has the file already."},
}
_VIDEO: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}, "description": "The video."},
    206: {"content": {"video/mp4": {}}, "description": "The range that was asked for."},
    304: {"description": "The client has the video already."},
}


def video_routes(body: dict[str, Any]) -> APIRouter:
    """The routes.

    Args:
        body: Of `POST /v1/videos`, in OpenAPI.
    """
    routes = APIRouter(prefix="/v1/videos", tags=["videos"])
    _add_making(routes, body)
    _add_looking(routes)
    _add_content(routes)
    _add_pictures(routes)
    # after `/input/image`, which is a picture
    _add_inputs(routes)
    return routes


def _add_making(routes: APIRouter, body: dict[str, Any]) -> None:
    @routes.post(
        "",
        status_code=202,
        response_model=VideoObject,
        responses=error_responses(400, 413, 415, 422, 503, 507),
        openapi_extra={"requestBody": body},
        summary="Make a video",
    )
    async def create_video(
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(max_length=255, description="A repetition of a request with the same key gives the same job."),
        ] = None,
    ) -> Response:
        service = service_of(request)
        sender = Sender(client_of(request.scope), request_id_of(request), idempotency_key)
        job, is_new = await service.desk.receive(request, sender)
        shown = await run_in_threadpool(service.shown, job)
        headers = {"Location": f"{request.scope.get('root_path', '')}/v1/videos/{job.id}"}
        if not is_new:
            headers["Idempotency-Replayed"] = "true"
        return JSONResponse(shown.model_dump(mode="json"), 202, headers)

    @routes.post("/{video_id}/cancel", responses=error_responses(404, 409), summary="Stop a job")
    def cancel_video(request: Request, video_id: str) -> VideoObject:
        service = service_of(request)
        job = service.job_of(request, video_id)
        ended = service.store.cancel(job.id, service.settings.retention_hours * 3600)
        job = service.job_of(request, video_id)
        if not ended and job.status != JobStatus.CANCELLED:
            raise ApiError(409, "already_ended", f"The job is {job.status} already; delete it if it is not wanted.")
        return service.shown(job)

    @routes.delete("/{video_id}", responses=error_responses(404), summary="Delete a job and all its files")
    def delete_video(request: Request, video_id: str) -> DeletedVideo:
        service = service_of(request)
        job = service.job_of(request, video_id)
        service.store.delete(job.id)
        service.files.delete(job.id)
        return DeletedVideo(id=job.id)


def _add_looking(routes: APIRouter) -> None:
    @routes.get("", responses=error_responses(404, 422), summary="The client's jobs")
    def list_videos(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100, description="Most of them.")] = 20,
        after: Annotated[str | None, Query(max_length=64, description="Begin after this job.")] = None,
        order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first.")] = "desc",
        status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    ) -> VideoList:
        service = service_of(request)
        if after is not None:
            service.job_of(request, after)
        jobs, more = service.store.page(client_of(request.scope), limit, after, order == "desc", status)
        places = service.places() if any(job.status == JobStatus.QUEUED for job in jobs) else {}
        return VideoList(data=[video_object(job, places.get(job.id)) for job in jobs], has_more=more)

    @routes.get("/{video_id}", responses=error_responses(404), summary="A job")
    def get_video(request: Request, video_id: str) -> VideoObject:
        service = service_of(request)
        return service.shown(service.job_of(request, video_id))


def _add_content(routes: APIRouter) -> None:
    @routes.get(
        "/{video_id}/content",
        response_class=StoredFile,
        responses={**_VIDEO, **error_responses(404, 409, 416)},
        summary="The video",
    )
    def get_content(
        request: Request,
        video_id: str,
        download: Annotated[bool, Query(description="Whether a browser is to save it.")] = False,
    ) -> StoredFile:
        service = service_of(request)
        path = service.video_of(service.job_of(request, video_id))
        how: Literal["attachment", "inline"] = "attachment" if download else "inline"
        return StoredFile(
            path, media_type="video/mp4", filename=f"{video_id}.mp4", content_disposition_type=how, headers=_kept()
        )


def _add_pictures(routes: APIRouter) -> None:
    @routes.get(
        "/{video_id}/preview",
        responses={**_JPEG, **error_responses(404, 409)},
        response_class=Response,
        summary="The newest frame",
    )
    def get_preview(request: Request, video_id: str) -> Response:
        service = service_of(request)
        job = service.job_of(request, video_id)
        try:
            return Response(service.files.preview(job.id).read_bytes(), media_type="image/jpeg")
        except FileNotFoundError:
            raise ApiError(409, "not_ready", "There is no frame yet; try again in a second.") from None

    @routes.get(
        "/{video_id}/thumbnail",
        responses={**_JPEG, **error_responses(404, 409)},
        response_class=Response,
        summary="A small picture",
    )
    def get_thumbnail(request: Request, video_id: str) -> Response:
        service = service_of(request)
        job = service.job_of(request, video_id)
        preview = service.files.preview(job.id)
        if preview.is_file():
            return Response(preview.read_bytes(), media_type="image/jpeg", headers=_kept() if job.is_ended else {})
        return _small_picture(job, service.files.folder(job.id))

    @routes.get(
        "/{video_id}/input/image",
        responses={**_JPEG, **error_responses(404, 409)},
        response_class=Response,
        summary="The portrait",
    )
    def get_input_image(request: Request, video_id: str) -> Response:
        service = service_of(request)
        job = service.job_of(request, video_id)
        return _small_picture(job, service.files.folder(job.id), longest=1024)


def _add_inputs(routes: APIRouter) -> None:
    @routes.get(
        "/{video_id}/input/{name}",
        responses={**_INPUT, **error_responses(404, 416)},
        response_class=StoredFile,
        summary="A file that was sent for it, by its name among the inputs of the job",
    )
    def get_input(request: Request, video_id: str, name: str) -> StoredFile:
        service = service_of(request)
        job = service.job_of(request, video_id)
        stored = stored_inputs(job.inputs).get(name)
        path = service.files.folder(job.id) / (stored or "")
        if stored is None or not path.is_file():
            raise ApiError(404, "not_found", "The job has no input of this name; its inputs are among its values.")
        kind, ending = content_type(path, is_picture=stored == job.inputs.picture)
        return StoredFile(path, media_type=kind, filename=f"{video_id}-{name}{ending}")


def _small_picture(job: Job, folder: Path, longest: int = _THUMBNAIL) -> Response:
    path = folder / job.inputs.picture
    if job.inputs.picture == FOOTAGE:
        from fantasytalking.pipeline.face_in_footage import open_footage

        pixels = open_footage(path).frame(0)
    else:
        pixels = load_image(path)
    return Response(_jpeg(pixels, longest), media_type="image/jpeg", headers=_kept())


def _jpeg(pixels: Any, longest: int) -> bytes:
    scale = longest / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return bytes(data.tobytes())


def _kept() -> dict[str, str]:
    """Headers of what never changes, for the client's own cache alone."""
    return {"Cache-Control": "private, max-age=3600"}
