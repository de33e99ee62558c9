"""What `POST /v1/videos` takes: a form with files, or JSON with files in base64."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.settings_schema import settings_properties
from fantasytalking.serving.server_settings import ServerSettings

__all__ = ["FIELDS", "VideoRequest", "read_video_request", "request_body_schema"]

FILES = ("image_reference", "video_reference", "audio_reference")
FIELDS = (*FILES, "audio_face", "model", "profile")
"""Fields that are no settings."""
PROFILES = ("exact", "balanced", "fast", "turbo")
_MOST_FIELDS = 200


@dataclass
class VideoRequest:
    """A request before its files are stored.

    Attributes:
        files: Field -> files, open for reading.
        faces: Number of the face of each speech, as given.
        model: Name of the model, or None.
        profile: Name of the profile.
        fields: All other fields, which are to be settings.
    """

    files: dict[str, list[BinaryIO]]
    faces: list[Any] = field(default_factory=list)
    model: str | None = None
    profile: str = "exact"
    fields: dict[str, Any] = field(default_factory=dict)


async def read_video_request(request: Request, settings: ServerSettings) -> VideoRequest:
    """Read the body of a request.

    Raises:
        ApiError: It is neither form nor JSON, or cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _of_form(await request.form(max_files=settings.speakers + 2, max_fields=_MOST_FIELDS))
    if kind == "application/json":
        return _of_json(await request.body())
    raise ApiError(415, "unknown_kind", "The request must be a form (multipart/form-data) or JSON (application/json).")


def _of_form(form: FormData) -> VideoRequest:
    found = VideoRequest({})
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILES:
                raise ApiError(422, "settings_error", f"There is no file {name!r}; files are {', '.join(FILES)}.", name)
            found.files.setdefault(name, []).append(value.file)
        elif name in FILES:
            raise ApiError(422, "input_error", f"{name} must be a file, but a text was given.", name)
        elif name == "audio_face":
            found.faces.append(value)
        else:
            _put(found, name, value)
    return found


def _of_json(body: bytes) -> VideoRequest:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "bad_request", "The body is no JSON; send an object.") from None
    if not isinstance(values, dict):
        raise ApiError(400, "bad_request", "The body must be a JSON object.")
    found = VideoRequest({})
    for name, value in values.items():
        if name in FILES:
            several = value if isinstance(value, list) else [value]
            found.files[name] = [io.BytesIO(_decoded(name, one)) for one in several]
        elif name == "audio_face":
            found.faces = value if isinstance(value, list) else [value]
        else:
            _put(found, name, value)
    return found


def _put(found: VideoRequest, name: str, value: Any) -> None:
    if name in found.fields:
        raise ApiError(422, "settings_error", f"{name} was given twice; give it once.", name)
    if name in ("model", "profile"):
        if not isinstance(value, str):
            raise ApiError(422, "settings_error", f"{name} must be text.", name)
        setattr(found, name, value)
    else:
        found.fields[name] = value


def _decoded(name: str, value: Any) -> bytes:
    text = value.get("data") if isinstance(value, dict) else value
    if isinstance(text, str) and text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            text = None
    if not isinstance(text, str):
        raise ApiError(422, "input_error", f'{name} must be a data URL in base64, or {{"data": base64}}.', name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(422, "input_error", f"{name} is not valid base64.", name) from None


def request_body_schema(defaults: GenerationSettings, models: Iterable[str]) -> dict[str, Any]:
    """The request body in OpenAPI, with every setting from its record.

    Args:
        defaults: Settings of the default model.
        models: Names of the models, the default first.
    """
    names = list(models)
    others = {
        "model": {"type": "string", "enum": names, "default": names[0], "description": "The model."},
        "profile": {
            "type": "string",
            "enum": list(PROFILES),
            "default": "exact",
            "description": "How exact and how fast: exact computes every step; the others skip what changes little.",
        },
        **settings_properties(defaults),
    }
    data: dict[str, Any] = {
        "oneOf": [
            {"type": "string", "description": "A data URL in base64."},
            {
                "type": "object",
                "required": ["data"],
                "properties": {"data": {"type": "string", "contentEncoding": "base64"}},
            },
        ]
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _body({"type": "string", "format": "binary"}, others)},
            "application/json": {"schema": _body(data, others)},
        },
    }


def _body(file: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    faces = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "description": "Face of each speech, where several speak.",
    }
    return {
        "type": "object",
        "required": ["audio_reference"],
        "properties": {
            "image_reference": {**file, "description": "The portrait."},
            "video_reference": {**file, "description": "In its place: footage to dub."},
            "audio_reference": {
                "type": "array",
                "items": file,
                "minItems": 1,
                "description": "The speech, or one for each speaker.",
            },
            "audio_face": faces,
            **others,
        },
    }
