"""The outermost layer of an application: gives each request an id, counts it, times it, and logs its end."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fantasytalking.serving.api.identity import client_of
from fantasytalking.serving.operations.metrics import Metrics
from fantasytalking.serving.operations.structured_logs import REQUEST_ID, log_event

__all__ = ["REQUEST_ID_HEADER", "RequestLog"]

REQUEST_ID_HEADER = "x-request-id"

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = ("/healthz", "/readyz", "/metrics")
_log = logging.getLogger("fantasytalking.serving.requests")


class RequestLog:
    """Id, count, time and log line of each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and note how it ended."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        name = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = name
        token = REQUEST_ID.set(name)
        status, begin = 500, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = name
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and status == 500:
                status = 403
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._tell(scope, status, time.monotonic() - begin)
            REQUEST_ID.reset(token)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        # the template of the route and not the path, which is whatever a client sends
        route = str(getattr(scope.get("route"), "path", "other"))
        method = scope.get("method", "WS")
        method = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "WS") else "other"
        self._metrics.request(method, route, status, seconds)
        if route in _QUIET and status < 400:
            return
        # a file of the page, of which each visit asks for dozens
        routine = route == "other" and status < 400
        level = logging.WARNING if status >= 500 else logging.DEBUG if routine else logging.INFO
        facts = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds),
            "client": client_of(scope),
        }
        log_event(_log, "request", level, **facts)
