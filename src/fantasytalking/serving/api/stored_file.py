"""Answers that are a file: in ranges, and nothing where the client has it already."""

from __future__ import annotations

import os

import anyio
from starlette.datastructures import Headers
from starlette.responses import FileResponse, JSONResponse, MalformedRangeHeader, RangeNotSatisfiable, Response
from starlette.types import Receive, Scope, Send

from fantasytalking.serving.api.refusals import error_body

__all__ = ["StoredFile"]

_KEPT = ("etag", "last-modified", "cache-control", "content-disposition")
"""Headers that go with 304, too (RFC 9110, 15.4.5)."""


class StoredFile(FileResponse):
    """A file by the rules of RFC 9110, with the errors of the API.

    Starlette's own takes no notice of `If-None-Match`, answers 400 where a range cannot be read, which is to be ignored (14.2), and
    refuses in plain text.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            found = await anyio.to_thread.run_sync(os.stat, self.path)
        except FileNotFoundError:  # deleted since it was looked up
            gone = JSONResponse(error_body("not_found", "The file is gone."), 404)
            await gone(scope, receive, send)
            return
        self.stat_result = found
        self.set_stat_headers(found)
        headers = Headers(scope=scope)
        if self._is_known(headers.get("if-none-match")):
            kept = {name: self.headers[name] for name in _KEPT if name in self.headers}
            await Response(status_code=304, headers=kept)(scope, receive, send)
            return
        try:
            if "range" in headers:
                self._parse_range_header(headers["range"], found.st_size)
        except MalformedRangeHeader:
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        except RangeNotSatisfiable:
            if "if-range" not in headers:
                await self._outside(found.st_size)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _is_known(self, tags: str | None) -> bool:
        given = [] if tags is None else [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return "*" in given or self.headers["etag"] in given

    def _outside(self, size: int) -> JSONResponse:
        message = f"The range lies outside the file, which has {size:,} bytes; ask for a part of these."
        return JSONResponse(error_body("bad_range", message), 416, {"Content-Range": f"bytes */{size}"})
