"""Who may call the server, from where, and what browsers may do with its answers.

* A server that others can reach has tokens, or does not start.
* The `Host` of a request is one of the server's names: a stranger's page whose own name points at 127.0.0.1 (DNS rebinding) is refused.
* What changes something, and every WebSocket, comes from the server's own page or from no page at all.
* Answers tell browsers to run no script but the server's own, to be shown in no frame, and to be read by no other page.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fantasytalking.errors import SettingsError
from fantasytalking.serving.api.identity import Identities, address_of
from fantasytalking.serving.api.rate_limits import RateLimits, RequestLimits
from fantasytalking.serving.api.refusals import Refusal, refuse
from fantasytalking.serving.api.sessions import session_routes
from fantasytalking.serving.server_settings import ServerSettings, is_loopback

__all__ = ["CONTENT_SECURITY_POLICY", "Access", "check_access", "protect"]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob: data:",
        "connect-src 'self' blob: data:",
        "font-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
}
_READING = ("GET", "HEAD", "OPTIONS")
# The page itself is no secret, and has the form for the token.
_OPEN_PATHS = ("/", "/healthz", "/readyz", "/favicon.ico", "/v1/session")
_OPEN_FOLDER = "/static/"


def check_access(settings: ServerSettings) -> None:
    """Refuse to offer a server to others without tokens.

    Raises:
        SettingsError: It would listen on an address that others can call, and has no token.
    """
    if not settings.loopback_only and not settings.tokens:
        raise SettingsError(
            f"The server would listen on {settings.host}, where others can call it, and has no tokens; "
            "give token_file (--token-file FILE, a line NAME=TOKEN for each client), or listen on 127.0.0.1."
        )


def protect(app: FastAPI, settings: ServerSettings) -> None:
    """Add everything of this module and of `rate_limits` to an application, as its last, outermost layers.

    Raises:
        SettingsError: As for `check_access`.
    """
    check_access(settings)
    identities = Identities({name: token.get_secret_value() for name, token in settings.tokens.items()})
    limits = RateLimits(settings)
    app.include_router(session_routes(identities))
    app.add_middleware(RequestLimits, settings=settings, limits=limits)
    app.add_middleware(Access, settings=settings, identities=identities, limits=limits)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Client-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )


class Access:
    """The layer of an application that lets requests in, and gives answers their safe headers."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, identities: Identities, limits: RateLimits) -> None:
        self._app = app
        self._identities = identities
        self._limits = limits
        self._origins = settings.origins
        names = {settings.host, "localhost", socket.gethostname()} | set(settings.hosts)
        self._hosts = {name.strip("[]").lower() for name in names}
        # every address is the server's own where it listens on all; a page of a stranger has a name
        self._any_address = not settings.loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        safely = _with_headers(scope, send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refuse(scope, receive, safely, refusal)
        else:
            await self._app(scope, receive, safely)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own(host):
            return Refusal(
                403, "unknown_host", "The server is not known under this name; its operator can add it to 'hosts'."
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _READING
        if changes and not self._is_friendly(headers, host):
            return Refusal(
                403, "foreign_origin", "The request comes from a page of another origin; its operator can allow it."
            )
        client = self._identities.of_request(scope)
        if client is None and not _is_open(scope):
            slower = self._limits.refused(address_of(scope))
            return slower or Refusal(
                401,
                "unauthorized",
                "The server needs a token; send the header 'Authorization: Bearer TOKEN'.",
                {"www-authenticate": "Bearer"},
            )
        scope.setdefault("state", {})["client"] = client or address_of(scope)
        return None

    def _is_own(self, host: str) -> bool:
        name = _name_of(host)
        if "*" in self._hosts or name in self._hosts or (name and is_loopback(name)):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address

    def _is_friendly(self, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # not a browser, or one that says what kind of page it was
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        # Without the scheme: behind a proxy with TLS the server itself does not know it.
        return origin in self._origins or (origin != "null" and urlsplit(origin).netloc.lower() == host.lower())


def _is_open(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
    return scope["type"] == "http" and (path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER))


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(scope: Scope, send: Send) -> Send:
    async def safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            # answers are about one client; whoever wants one kept says so
            headers.setdefault("cache-control", "no-store")
            if scope.get("scheme") == "https":
                headers.setdefault("strict-transport-security", "max-age=31536000")
        await send(message)

    return safely
