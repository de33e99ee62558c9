"""Routes of the page: `GET /` and `GET /static/...`."""

from __future__ import annotations

import mimetypes
from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["PAGE_FOLDER", "add_page"]

PAGE_FOLDER = Path(__file__).parent
_CHECK_FIRST = {"Cache-Control": "no-cache"}
"""A browser asks whether its copy is still the newest, so that an update of the package never meets old modules."""


class _PageFiles(StaticFiles):
    """Static files that a browser keeps, but asks for each time."""

    def file_response(
        self,
        full_path: str | PathLike[str],
        stat_result: stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file, or 304 where the browser's copy is the newest."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_CHECK_FIRST)
        return response


def add_page(app: FastAPI) -> None:
    """Let an application serve the page at `/` and its files below `/static`."""
    # A registry of Windows may call these plain text, and browsers refuse such modules.
    mimetypes.add_type("text/javascript", ".js")
    mimetypes.add_type("text/css", ".css")
    mimetypes.add_type("image/svg+xml", ".svg")
    app.mount("/static", _PageFiles(directory=PAGE_FOLDER / "static"), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE_FOLDER / "index.html", headers=_CHECK_FIRST)
