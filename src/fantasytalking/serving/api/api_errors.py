"""Errors of the API: every answer of 400 and above is `{"error": {"code", "message", "param"}}`."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fantasytalking.errors import FantasyTalkingError
from fantasytalking.pipeline.settings import settings_list
from fantasytalking.serving.api.head_requests import allowed_methods
from fantasytalking.serving.api.rate_limits import BodyRefused
from fantasytalking.serving.api.refusals import error_body
from fantasytalking.serving.jobs.job_errors import INTERNAL, error_of
from fantasytalking.serving.uploads.file_kinds import FileTooLarge, UnknownFileKind
from fantasytalking.serving.uploads.receive_form import FormError

__all__ = ["ERROR_SCHEMA", "ApiError", "add_error_handlers", "api_error", "error_responses"]

_PARAMETERS = {
    "image_error": "image_reference",
    "face_error": "image_reference",
    "audio_error": "audio_reference",
    "video_error": "video_reference",
}
_STATUS = {"storage_error": 507, "model_error": 503, "out_of_memory": 503, "resource_error": 503}
_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (FileTooLarge, 413, "too_large"),
    (UnknownFileKind, 415, "unknown_kind"),
    (FormError, 400, "bad_request"),
)
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unknown_kind"}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "param"],
            "properties": {
                "code": {"type": "string", "description": "A word for programs."},
                "message": {"type": "string", "description": "One sentence: what is wrong, and what to do."},
                "param": {"type": ["string", "null"], "description": "The field of the request that is meant."},
            },
        }
    },
}
_MEANINGS = {
    400: "The request cannot be read.",
    401: "A token is needed.",
    403: "The request comes from where none may come from.",
    404: "There is no such thing, or it belongs to another client.",
    409: "It is not in the state for that.",
    413: "It is larger or longer than the server accepts.",
    415: "A file of no kind that is known.",
    416: "The range lies outside the file.",
    422: "A file or a setting cannot be used.",
    429: "Too many jobs or requests; Retry-After says when to come back.",
    501: "The server lacks the package for that.",
    503: "The server cannot do it now.",
    507: "The server's disk is full.",
}

_log = logging.getLogger("fantasytalking.serving.api")


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: Status of HTTP.
        code: A word for programs.
        message: One sentence.
        param: Field of the request that is meant.
        headers: Further headers.
    """

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.headers = status, code, message, param, headers


def api_error(error: FantasyTalkingError, folder: Path, param: str | None = None) -> ApiError:
    """The answer to an error of the library.

    Args:
        error: The error.
        folder: Folder whose path is taken out of the sentence.
        param: Field of the request that is meant; None finds it from the kind of error.
    """
    told = error_of(error, folder)
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return ApiError(status, code, told.message, param)
    return ApiError(_STATUS.get(told.code, 422), told.code, told.message, param or _parameter(told.code, told.message))


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors of a route."""
    content = {"application/json": {"schema": ERROR_SCHEMA}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in (*statuses, 401, 403, 429)}


def add_error_handlers(app: FastAPI, data: Path) -> None:
    """Let an application answer all errors in one form.

    Args:
        app: The application.
        data: The data folder, whose path no answer shows.
    """

    @app.exception_handler(ApiError)
    async def _of_api(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error_body(error.code, error.message, error.param), error.status, error.headers)

    @app.exception_handler(FantasyTalkingError)
    async def _of_library(request: Request, error: FantasyTalkingError) -> JSONResponse:
        return await _of_api(request, api_error(error, data))

    @app.exception_handler(BodyRefused)
    @app.exception_handler(ClientDisconnect)
    async def _of_connection(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body("bad_request", "The request ended before it was complete."), 400)

    @app.exception_handler(HTTPException)
    async def _of_framework(request: Request, error: HTTPException) -> JSONResponse:
        code, headers, told = _CODES.get(error.status_code, "error"), error.headers, _sentence(str(error.detail))
        if error.status_code == 405:
            taken = ", ".join(allowed_methods(app.routes, request.scope))
            headers, told = (
                {"Allow": taken},
                f"{request.scope['path']} does not take {request.method}; it takes {taken}.",
            )
        return JSONResponse(error_body(code, told), error.status_code, headers)

    @app.exception_handler(RequestValidationError)
    async def _of_parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1]) if first["loc"] else None
        return JSONResponse(error_body("settings_error", f"{name} cannot be used: {first['msg']}.", name), 422)

    @app.exception_handler(Exception)
    async def _unknown(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s: %s", request.method, request.scope["path"], type(error).__name__, exc_info=error)
        return JSONResponse(error_body(INTERNAL.code, INTERNAL.message), 500)


def _parameter(code: str, message: str) -> str | None:
    if code != "settings_error":
        return _PARAMETERS.get(code)
    words = re.findall(r"\w+", message)
    names = {setting.name for setting in settings_list()} | {"model", "profile"}
    return next((word for word in words if word in names), None)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
