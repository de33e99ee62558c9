"""Requests that send one file, which is looked at and not kept."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request

from fantasytalking.serving.api.api_errors import ApiError
from fantasytalking.serving.api.service import service_of
from fantasytalking.serving.api.video_request import read_video_request

__all__ = ["one_file", "one_file_body"]


@asynccontextmanager
async def one_file(request: Request, field: str, what: str) -> AsyncIterator[Path]:
    """Receive the file of a request; at the end of the block it is gone.

    Args:
        request: The request.
        field: Field of the file.
        what: How a message calls it, such as "picture".

    Yields:
        The file, under a name of ours in a folder of its own, as it was sent.

    Raises:
        ApiError: There is none, or there are several.
        InputError: The request cannot be read, or the file is too large.
    """
    service = service_of(request)
    with tempfile.TemporaryDirectory(dir=service.files.uploads) as folder:
        read = await read_video_request(request, service.settings, Path(folder))
        files = read.files.get(field, [])
        if not files:
            raise ApiError(422, "input_error", f"{field} is missing; give one {what}.", field)
        if len(files) > 1:
            raise ApiError(422, "input_error", f"{len(files)} files were given as {field}; give one {what}.", field)
        yield files[0]


def one_file_body(field: str) -> dict[str, Any]:
    """The body of such a request in OpenAPI."""
    file = {"type": "string", "format": "binary"}
    schema = {"type": "object", "required": [field], "properties": {field: file}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
