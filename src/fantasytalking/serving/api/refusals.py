"""Answers of the layers below the routes: an error in the form of the API, sent without a framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope, Send

__all__ = ["Refusal", "error_body", "refuse"]

_POLICY_VIOLATION = 1008


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
    return {"error": {"code": code, "message": message, "param": param}}


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Send a refusal; a WebSocket, which is not accepted yet, is closed."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.code})
        return
    body = json.dumps(error_body(refusal.code, refusal.message)).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
