"""The cookie that a page has in place of a token."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from fantasytalking.serving.api.identity import COOKIE, SESSION_SECONDS, Identities
from fantasytalking.serving.api.refusals import error_body

__all__ = ["session_routes"]

_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is no JSON."},
    401: {"description": "There is no such token."},
}


class SessionRequest(BaseModel):
    """A token that a person gave to the page."""

    token: Annotated[str, Field(min_length=1, max_length=1024, description="The access token.")]


class Session(BaseModel):
    """Who a page is for the server."""

    needs_token: Annotated[bool, Field(description="Whether requests need a token or the cookie of a session.")]
    client: Annotated[str | None, Field(description="Name of the client; null where a token is still needed.")]


def session_routes(identities: Identities) -> APIRouter:
    """`GET`, `POST` and `DELETE /v1/session`.

    Args:
        identities: Tokens of the server.
    """
    routes = APIRouter(prefix="/v1/session", tags=["session"])

    @routes.get("", summary="Whether a token is needed, and who the caller is")
    async def tell(request: Request) -> Session:
        return Session(needs_token=identities.needs_token, client=identities.of_request(request.scope))

    @routes.post("", summary="Exchange a token for a cookie", responses=_REFUSED)
    async def enter(request: Request, given: SessionRequest) -> Response:
        name = identities.of_token(given.token)
        if name is None:
            return JSONResponse(error_body("unauthorized", "There is no such token; check it.", "token"), 401)
        answer = JSONResponse(Session(needs_token=True, client=name).model_dump())
        answer.set_cookie(
            COOKIE,
            identities.session(name),
            max_age=SESSION_SECONDS,
            path=request.scope.get("root_path", "") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    @routes.delete("", status_code=204, summary="End the session")
    async def leave(request: Request) -> Response:
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path=request.scope.get("root_path", "") or "/", httponly=True, samesite="strict")
        return answer

    return routes
