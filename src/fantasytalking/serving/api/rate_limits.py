"""How much one client may send: requests a minute, size of a body, and time to send it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fantasytalking.serving.api.identity import client_of
from fantasytalking.serving.api.refusals import Refusal, refuse
from fantasytalking.serving.server_settings import ServerSettings

__all__ = ["BodyRefused", "RateLimits", "RequestLimits", "TokenBucket"]

_REMEMBERED = 10_000
_WRONG_TOKENS_PER_MINUTE = 20
_SMALL_BODY = 64 * 1024
# what multipart adds, and fields that are no files
_FORM_BYTES = 1024 * 1024
_HEAVY_PATHS = ("/v1/videos", "/v1/faces", "/v1/speech")
# of an upload, or of a finished video
_HEAVY_END = "/verify"
_FREE_PATHS = ("/", "/healthz", "/readyz", "/metrics")
# The page is dozens of modules: a few visits a minute would use up what its jobs need.
_FREE_BEGINNING = "/static/"


class TokenBucket:
    """So many events a minute for each name, in bursts of as many.

    Args:
        per_minute: Events a minute.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Count one event.

        Returns:
            0 where it is accepted, or else the seconds until one is.
        """
        now = self._clock()
        left, before = self._left.pop(name, (self._most, now))
        left = min(self._most, left + (now - before) * self._most / 60.0)
        self._left[name] = (left - 1.0 if left >= 1.0 else left), now
        # the oldest of so many names has waited longer than any bucket takes to fill, or someone makes names up
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return 0.0 if left >= 1.0 else (1.0 - left) * 60.0 / self._most


class RateLimits:
    """The counts of all clients of a server."""

    def __init__(self, settings: ServerSettings) -> None:
        self._requests = TokenBucket(settings.requests_per_minute)
        self._uploads = TokenBucket(settings.uploads_per_minute)
        self._wrong = TokenBucket(_WRONG_TOKENS_PER_MINUTE)

    def request(self, client: str, uploads: bool) -> Refusal | None:
        """Count a request; the refusal where there were too many."""
        wait = self._requests.take(client)
        if uploads and wait == 0.0:
            wait = self._uploads.take(client)
        return _slower(wait, "requests") if wait else None

    def refused(self, address: str) -> Refusal | None:
        """Count a request without a right token; the refusal where there were too many."""
        wait = self._wrong.take(address)
        return _slower(wait, "requests without a token") if wait else None


class BodyRefused(Exception):  # noqa: N818 - it ends the reading of a body, wherever that happens
    """The body of a request is too large or too slow; the answer is sent by `RequestLimits`."""


class RequestLimits:
    """The layer of an application that counts requests, and ends bodies that are too large or too slow.

    Nothing is read beyond the limit. Whatever the application makes of the interruption, the answer is the refusal, and the connection is
    closed, as the rest of the body is still to come.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, limits: RateLimits) -> None:
        self._app = app
        self._limits = limits
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        posts = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        most = self.body_limit(path) if posts else _SMALL_BODY
        is_heavy = posts and (path in _HEAVY_PATHS or path.endswith(_HEAVY_END))
        is_free = not posts and (path in _FREE_PATHS or path.startswith(_FREE_BEGINNING))
        refusal = None if is_free else self._limits.request(client_of(scope), is_heavy)
        if scope["type"] == "websocket":
            await (self._app(scope, receive, send) if refusal is None else refuse(scope, receive, send, refusal))
            return
        refusal = refusal or _declared_too_large(scope, most)
        if refusal is not None:
            await refuse(scope, receive, send, refusal)
            return
        guard = _Guard(self._settings, scope, receive, send, most)
        with contextlib.suppress(BodyRefused):
            await self._app(scope, guard.receive, guard.send)
        if guard.refusal is not None:
            await guard.answer()

    def body_limit(self, path: str) -> int:
        """Most bytes of a body that is sent to a path."""
        settings = self._settings
        files = {
            "/v1/videos": max(settings.video_bytes, settings.image_bytes) + settings.speakers * settings.audio_bytes,
            "/v1/faces": max(settings.video_bytes, settings.image_bytes),
            "/v1/verify": settings.video_bytes,
        }
        # base64 in JSON makes four bytes of three
        return math.ceil(files[path] * 4 / 3) + _FORM_BYTES if path in files else _FORM_BYTES


class _Guard:
    """Receiving and sending of one request, with its limits."""

    def __init__(self, settings: ServerSettings, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        self.refusal: Refusal | None = None
        self._scope, self._receive, self._send = scope, receive, send
        self._left = most
        self._most = most
        self._idle = settings.idle_seconds
        self._end = time.monotonic() + settings.body_seconds
        self._complete = False
        self._begun = False
        headers = Headers(scope=scope)
        self._sends_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"

    async def receive(self) -> Message:
        if self.refusal is not None:
            raise BodyRefused
        if self._complete:
            # what comes after the body is the end of the connection, for which an answer may wait long
            return await self._receive()
        wait = min(self._idle, self._end - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, wait))
        except TimeoutError:
            self._stop(Refusal(408, "too_slow", "The request was sent too slowly; send it again, or a smaller file."))
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left < 0:
                self._stop(_too_large(self._most))
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self._begun:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            if not self._complete and self._sends_body:
                # uvicorn would go on reading the rest, however long it is
                MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)

    async def answer(self) -> None:
        """Send the refusal, where no answer has begun."""
        if not self._begun and self.refusal is not None:
            await refuse(self._scope, None, self._send, self.refusal)

    def _stop(self, refusal: Refusal) -> None:
        self.refusal = refusal
        raise BodyRefused


def _declared_too_large(scope: Scope, most: int) -> Refusal | None:
    declared = Headers(scope=scope).get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 20 or int(declared) > most:
        return _too_large(most)
    return None


def _too_large(most: int) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"The request is larger than {most:,} bytes; send less.",
    )


def _slower(wait: float, what: str) -> Refusal:
    seconds = max(1, math.ceil(wait))
    return Refusal(
        429,
        "too_many_requests",
        f"There were too many {what}; try again in {seconds} s.",
        {"retry-after": str(seconds)},
    )
