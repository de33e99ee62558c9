"""HEAD wherever there is GET: the same answer without its body (RFC 9110, 9.3.2); and the methods that a path takes."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HeadRequests", "allowed_methods"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class HeadRequests:
    """The layer of an application that answers HEAD by its routes for GET, which know only that.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_over = False

        async def without_body(message: Message) -> None:
            nonlocal is_over
            if message["type"] == "http.response.start":
                await send(message)
            elif not is_over:
                is_over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def until_over() -> Message:
            # A stream of events has no end of its own: it stops when its client leaves.
            return {"type": "http.disconnect"} if is_over else await receive()

        await self._app({**scope, "method": "GET"}, until_over, without_body)


def allowed_methods(routes: Iterable[BaseRoute], scope: Scope) -> tuple[str, ...]:
    """Methods that the path of a request takes: those of all its routes, while the answer of 405 comes from the first of them alone.

    Args:
        routes: Of the application; files below a mount are read only.
        scope: Of the request.
    """
    # a mount has put its own path into it
    asked = {**scope, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
    taken: set[str] = set()
    for route in routes:
        if isinstance(route, Mount):
            if route.matches(asked)[0] is Match.FULL:
                taken.add("GET")
        else:
            taken |= {name for name in _METHODS if route.matches({**asked, "method": name})[0] is Match.FULL}
    ordered = [name for name in _METHODS if name in taken]
    return tuple(["GET", "HEAD", *ordered[1:]] if "GET" in taken else ordered)
