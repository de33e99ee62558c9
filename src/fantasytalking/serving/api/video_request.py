"""What `POST /v1/videos` takes: a form with files, or JSON with files in base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.settings_schema import settings_properties
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.fetch_url import fetch_url
from fantasytalking.serving.uploads.receive_form import ReceivedForm, receive_form, storing

__all__ = ["FIELDS", "PROFILES", "VideoRequest", "read_video_request", "request_body_schema"]

FILES = ("image_reference", "video_reference", "audio_reference")
FIELDS = (*FILES, "audio_face", "model", "profile")
"""Fields that are no settings."""
PROFILES = ("exact", "balanced", "fast", "turbo")
_LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON body, which is read as a whole; forms are not."""


@dataclass
class VideoRequest:
    """What a request sent.

    Attributes:
        files: Field -> files, stored in the folder that was given for them under names that are not theirs to stay.
        faces: Number of the face of each speech, as given.
        model: Name of the model, or None.
        profile: Name of the profile.
        fields: All other fields, which are to be settings.
    """

    files: dict[str, list[Path]] = field(default_factory=dict)
    faces: list[Any] = field(default_factory=list)
    model: str | None = None
    profile: str = PROFILES[0]
    fields: dict[str, Any] = field(default_factory=dict)


async def read_video_request(request: Request, settings: ServerSettings, folder: Path) -> VideoRequest:
    """Read the body of a request.

    Args:
        request: The request.
        settings: Of the server; its largest files.
        folder: An empty folder, for the files.

    Raises:
        ApiError: It is neither form nor JSON, or cannot be read.
        InputError: The form cannot be read, or a file is too large.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() == "application/json":
        return await run_in_threadpool(_of_json, await _body_of(request), folder, settings)
    limits = _most_bytes(settings)
    return _of_form(await receive_form(kind, request.stream(), folder, limits, settings.speakers + 2))


def _most_bytes(settings: ServerSettings) -> dict[str, int]:
    return {
        "image_reference": settings.image_bytes,
        "video_reference": settings.video_bytes,
        "audio_reference": settings.audio_bytes,
    }


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_JSON:
            most = _LARGEST_JSON // 2**20
            raise ApiError(
                413, "too_large", f"The JSON is larger than {most} MiB; send large files as multipart/form-data."
            )
    return bytes(body)


def _of_form(form: ReceivedForm) -> VideoRequest:
    found = VideoRequest()
    for file in form.files:
        found.files.setdefault(file.field, []).append(file.path)
    for name, value in form.fields:
        if name in FILES:
            raise ApiError(422, "input_error", f"{name} must be a file, but a text was given.", name)
        if name == "audio_face":
            found.faces.append(value)
        else:
            _put(found, name, value)
    return found


def _of_json(body: bytes, folder: Path, settings: ServerSettings) -> VideoRequest:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "bad_request", "The body is no JSON; send an object.") from None
    if not isinstance(values, dict):
        raise ApiError(400, "bad_request", "The body must be a JSON object.")
    found, most, count = VideoRequest(), _most_bytes(settings), 0
    for name, value in values.items():
        if name in FILES:
            for one in value if isinstance(value, list) else [value]:
                if count > settings.speakers + 1:
                    raise ApiError(
                        400, "bad_request", f"There are more than {settings.speakers + 2} files; send fewer."
                    )
                path = folder / f"upload-{count}"
                if isinstance(one, str) and one.startswith(("https:", "http:")):
                    asyncio.run(fetch_url(one, path, most[name], settings.url_hosts, settings.body_seconds))
                else:
                    _store(name, one, path, most[name])
                found.files.setdefault(name, []).append(path)
                count += 1
        elif name == "audio_face":
            found.faces = value if isinstance(value, list) else [value]
        else:
            _put(found, name, value)
    return found


def _store(name: str, value: Any, path: Path, most: int) -> None:
    data = _decoded(name, value)
    if len(data) > most:
        raise ApiError(413, "too_large", f"The file of {name} has more than {most:,} bytes; give a smaller one.", name)
    with storing():
        path.write_bytes(data)


def _put(found: VideoRequest, name: str, value: Any) -> None:
    for text in (name, value):
        # half a character, which JSON can write, is no text that could be stored or answered; databases take no zero either
        if isinstance(text, str) and ("\0" in text or any("\ud800" <= one <= "\udfff" for one in text)):
            raise ApiError(422, "settings_error", f"{name[:64]!a} is no text in Unicode; correct it.")
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
            {"type": "string", "description": "A data URL in base64, or an https URL of a host that the server lists."},
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
