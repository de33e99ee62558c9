"""Answers of the layers below the routes: an error in the form of the API, sent without a framework."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

__all__ = ["Refusal", "error_body", "refuse"]

_POLICY_VIOLATION = 1008
_SMALL_BODY = 1024 * 1024
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        status: Status of HTTP.
        code: Word for programs.
        message: One sentence: what is wrong, and what to do.
        headers: Further headers of the answer.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def error_body(code: str, message: str, param: str | None = None) -> dict[str, dict[str, str | None]]:
    """The JSON of every error of the API.

    Args:
        code: Word for programs.
        message: One sentence.
        param: Field of the request that is meant, if one is.
    """
    return {
        "error": {"code": code, "message": _writable(message), "param": None if param is None else _writable(param)}
    }


def _writable(text: str) -> str:
    """A text without halves of characters, which a name in a request may have."""
    return text.encode("utf-8", "replace").decode()


async def refuse(scope: Scope, receive: Receive | None, send: Send, refusal: Refusal) -> None:
    """Send a refusal; a WebSocket, which is not accepted yet, is closed.

    A small body is read first, since a client that is still sending would see its connection reset in place of the answer. After a large
    one the connection is closed, and where nothing more may be received (None).
    """
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.code})
        return
    given = {"content-type": "application/json", **refusal.headers}
    if receive is None or not await _is_read(scope, receive):
        given["connection"] = "close"
    body = json.dumps(error_body(refusal.code, refusal.message)).encode()
    given["content-length"] = str(len(body))
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _is_read(scope: Scope, receive: Receive) -> bool:
    """Read a small body; whether it is read to its end."""
    headers = Headers(scope=scope)
    if "transfer-encoding" not in headers and "content-length" not in headers:
        return True
    declared = headers.get("content-length", "")
    if not declared.isdecimal() or len(declared) > 9 or int(declared) > _SMALL_BODY:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    return False
