"""What a client can ask before it makes a video: settings, models, limits, examples, the faces in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from fantasytalking.media.image import load_image
from fantasytalking.perception.face_confidence import check_face
from fantasytalking.perception.faces import MIN_FACE_SIZE, detect_faces, face_length
from fantasytalking.pipeline.early_inputs import read_demands
from fantasytalking.pipeline.model_names import embedded_folder, resolve_model
from fantasytalking.pipeline.settings import settings_list
from fantasytalking.serving.api.api_errors import ApiError, error_responses
from fantasytalking.serving.api.input_checks import check_file
from fantasytalking.serving.api.one_file import one_file, one_file_body
from fantasytalking.serving.api.service import service_of
from fantasytalking.serving.api.settings_schema import setting_object
from fantasytalking.serving.api.video_request import PROFILES
from fantasytalking.serving.offered_models import default_settings, offered_models
from fantasytalking.serving.realtime.live_messages import LIVE_IMAGE_BYTES

__all__ = ["information_routes"]

_EXAMPLES = {"portrait": ("portrait.png", "image/png"), "speech": ("speech.wav", "audio/wav")}
_LIMITS = (
    "image_bytes", "audio_bytes", "video_bytes", "image_pixels", "video_pixels", "speech_seconds", "footage_seconds",
    "prompt_characters", "speakers", "queued_jobs", "queued_jobs_per_client", "requests_per_minute", "uploads_per_minute",
    "retention_hours", "try_seconds", "tries",
)  # fmt: skip


class FoundFace(BaseModel):
    """A face in a picture."""

    number: int
    box: tuple[float, float, float, float]
    size: float
    confidence: float
    usable: bool
    told: str


class FoundFaces(BaseModel):
    """The faces in a picture, largest first."""

    width: int
    height: int
    faces: list[FoundFace]


def information_routes() -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["information"])

    @routes.get("/settings", responses=error_responses(422), summary="All settings of a video")
    def list_settings(request: Request, model: str | None = None) -> dict[str, Any]:
        usual = default_settings(service_of(request).settings, model)
        return {"object": "list", "data": [setting_object(one, getattr(usual, one.name)) for one in settings_list()]}

    @routes.get("/models", responses=error_responses(), summary="The models")
    def list_models(request: Request) -> dict[str, Any]:
        settings = service_of(request).settings
        data = [
            _model(name, known, number == 0) for number, (name, known) in enumerate(offered_models(settings).items())
        ]
        return {"object": "list", "data": data}

    @routes.get("/limits", responses=error_responses(), summary="What the server accepts")
    def get_limits(request: Request) -> dict[str, Any]:
        settings = service_of(request).settings
        live = min(settings.image_bytes, LIVE_IMAGE_BYTES)
        return {name: getattr(settings, name) for name in _LIMITS} | {
            "live_image_bytes": live,
            "profiles": list(PROFILES),
        }

    _add_examples(routes)
    _add_faces(routes)
    return routes


def _add_examples(routes: APIRouter) -> None:
    @routes.get("/examples", responses=error_responses(), summary="Example files")
    def list_examples(request: Request) -> dict[str, Any]:
        root = request.scope.get("root_path", "")
        data = [
            {"name": name, "url": f"{root}/v1/examples/{name}", "type": kind} for name, (_, kind) in _EXAMPLES.items()
        ]
        return {"object": "list", "data": data}

    @routes.get(
        "/examples/{name}", responses=error_responses(404), response_class=FileResponse, summary="An example file"
    )
    def get_example(name: str) -> FileResponse:
        if name not in _EXAMPLES:
            raise ApiError(404, "not_found", f"There is no example of this name; there are {', '.join(_EXAMPLES)}.")
        file, kind = _EXAMPLES[name]
        return FileResponse(
            embedded_folder() / "example" / file, media_type=kind, headers={"Cache-Control": "max-age=3600"}
        )


def _add_faces(routes: APIRouter) -> None:
    @routes.post(
        "/faces",
        responses=error_responses(400, 413, 415, 422),
        openapi_extra=one_file_body("image_reference"),
        summary="The faces in a picture",
    )
    async def find_faces(request: Request) -> FoundFaces:
        service = service_of(request)
        async with one_file(request, "image_reference", "picture") as picture:

            def look() -> FoundFaces:
                check_file(picture, "image", "image_reference", service.settings)
                return _faces_in(picture)

            return await to_thread.run_sync(look, limiter=service.desk.heavy)


def _faces_in(path: Path) -> FoundFaces:
    pixels = load_image(path)
    found = []
    for number, face in enumerate(detect_faces(pixels)):
        check = check_face(pixels, face)
        length = face_length(pixels, face)
        too_small = length < MIN_FACE_SIZE
        told = ""
        if too_small:
            told = f"The face is {length:.0f} pixels large and must be at least {MIN_FACE_SIZE:.0f}."
        elif check.is_no_face:
            told = "This is hardly a human face; face_check warn animates it all the same."
        elif check.is_unsure or check.hides_mouth or check.is_cut:
            told = "The face is cut, hidden or hard to make out, so it moves less."
        box = tuple(round(float(side), 1) for side in face.box)
        found.append(
            FoundFace(
                number=number,
                box=box,  # type: ignore[arg-type]
                size=round(face.size, 1),
                confidence=round(float(check.confidence), 3),
                usable=not (too_small or check.is_no_face),
                told=told,
            )
        )
    height, width = pixels.shape[:2]
    return FoundFaces(width=width, height=height, faces=found)


def _model(name: str, known: str, is_default: bool) -> dict[str, Any]:
    found = resolve_model(known)
    demands = read_demands(found, {}) if isinstance(found, Path) else None
    facts: dict[str, Any] = {"id": name, "object": "model", "default": is_default}
    if demands is not None:
        rules = demands.rules
        facts |= {
            "fps": rules.native_fps,
            "clip_seconds": round(rules.max_frames / rules.native_fps, 2),
            "keeps_size": rules.own_size,
            "longest_side": rules.longest_side,
            "settings": demands.settings.to_dict(),
        }
    return facts
