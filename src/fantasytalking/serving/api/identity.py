"""Who sends a request: bearer tokens, the cookie that a page has instead, and the name that limits and jobs go by."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope

__all__ = ["CLIENT_HEADER", "COOKIE", "Identities", "client_of"]

COOKIE = "fantasytalking_session"
CLIENT_HEADER = "x-client-id"
SESSION_SECONDS = 30 * 24 * 3600

_CLIENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def client_of(scope: Scope) -> str:
    """Name of the client of a request, as `Access` found it; a request of Starlette has it in `request.scope`."""
    return str(scope.get("state", {}).get("client", ""))


class Identities:
    """Finds the client of a request by the tokens of the server.

    A page cannot send a header with the address of a video or with a WebSocket, so that it gets a cookie for its token: name, time of
    expiry and a signature by the token, which ends when the token is changed.

    Args:
        tokens: Token by name of the client; empty: everyone is let in.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._digests = {name: _digest(token) for name, token in tokens.items()}

    @property
    def needs_token(self) -> bool:
        """Whether requests must prove who sends them."""
        return bool(self._digests)

    def of_token(self, token: str) -> str | None:
        """The client that a token belongs to, in a time that does not tell how much of it is right."""
        given, found = _digest(token), None
        for name, known in self._digests.items():
            if hmac.compare_digest(given, known):
                found = name
        return found

    def of_request(self, scope: Scope) -> str | None:
        """The client of a request; None: it must prove who it is, and does not."""
        headers = Headers(scope=scope)
        if not self.needs_token:
            named = headers.get(CLIENT_HEADER, "")
            return named if _CLIENT_NAME.fullmatch(named) else address_of(scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme:
            return self.of_token(token.strip()) if scheme.lower() == "bearer" else None
        return self._of_cookie(headers.get("cookie", ""))

    def session(self, name: str) -> str:
        """Value of a cookie for a client whose token was right."""
        expires = str(int(time.time()) + SESSION_SECONDS)
        return f"{name}:{expires}:{self._signature(name, expires)}"

    def _of_cookie(self, text: str) -> str | None:
        try:
            morsel = SimpleCookie(text).get(COOKIE)
        except CookieError:
            return None
        if morsel is None:
            return None
        name, _, rest = morsel.value.partition(":")
        expires, _, signature = rest.partition(":")
        right = hmac.compare_digest(signature.encode(), self._signature(name, expires).encode())
        if not right or name not in self._digests or not expires.isdecimal() or int(expires) < time.time():
            return None
        return name

    def _signature(self, name: str, expires: str) -> str:
        key = self._digests.get(name, b"nobody")
        return hmac.new(key, f"session:{name}:{expires}".encode(), hashlib.sha256).hexdigest()


def address_of(scope: Scope) -> str:
    """Address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
