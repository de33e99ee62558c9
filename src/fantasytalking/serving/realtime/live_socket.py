"""`WS /v1/realtime`: speech in while it is spoken, fragmented MP4 out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.serving.api.refusals import error_body
from fantasytalking.serving.jobs.job_errors import INTERNAL, error_of
from fantasytalking.serving.offered_models import model_named
from fantasytalking.serving.realtime.live_messages import (
    CANCEL,
    FINISH,
    LIVE_IMAGE_BYTES,
    START,
    SessionStart,
    parse_message,
)
from fantasytalking.serving.realtime.live_packets import VIDEO
from fantasytalking.serving.realtime.live_pool import LivePool, LiveProcess
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.check_upload import check_upload

__all__ = ["MIME", "realtime_routes"]

MIME = 'video/mp4; codecs="avc1.640028, mp4a.40.2"'
"""What a browser's `MediaSource` is to expect."""

_LAST_SECONDS, _END_SECONDS = 30.0, 10.0
"""Seconds that a session has to end: when its time is over, and when nobody wants the rest."""
_CHUNK_BYTES = 4 * 1024 * 1024
_CODES = {"normal": 1000, "refused": 1008, "busy": 1013, "internal": 1011}

_log = logging.getLogger("fantasytalking.serving.realtime")


def realtime_routes(settings: ServerSettings, pool: LivePool) -> APIRouter:
    """The route of live sessions.

    Args:
        settings: Of the server.
        pool: Its live processes.
    """
    router = APIRouter()

    @router.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await socket.accept()
        conversation = _Conversation(socket, settings, pool)
        try:
            await conversation.hold()
        except WebSocketDisconnect:
            return
        except FantasyTalkingError as error:
            told = error_of(error, settings.data)
            await conversation.refuse(told.code, told.message, "refused")
        except Exception as error:
            _log.error("live session: %s", type(error).__name__, exc_info=error)
            await conversation.refuse(INTERNAL.code, INTERNAL.message, "internal")

    return router


class _Conversation:
    """One client of the route."""

    def __init__(self, socket: WebSocket, settings: ServerSettings, pool: LivePool) -> None:
        self._socket, self._settings, self._pool = socket, settings, pool
        self._is_gone = False
        self._fault: tuple[str, str, str] | None = None

    async def refuse(self, code: str, message: str, how: str) -> None:
        """Tell an error and close."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._say("error", **error_body(code, message))
            await self._socket.close(_CODES[how])

    async def hold(self) -> None:
        """One session, from its first message to its end.

        Raises:
            FantasyTalkingError: What the client asked for cannot be done.
            WebSocketDisconnect: It is gone.
        """
        settings = self._settings
        first = await self._first_message()
        if first["type"] != START:
            await self.refuse("bad_request", f"The first message must be {START}.", "refused")
            return
        start = await run_in_threadpool(SessionStart.of, first, min(settings.image_bytes, LIVE_IMAGE_BYTES))
        model, _ = model_named(settings, start.model)
        if not await self._pool.room_soon(_END_SECONDS):
            await self.refuse(
                "busy", "All live sessions of this server are taken; try again when one has ended.", "busy"
            )
            return
        process, is_usable = await self._pool.take(), False
        folder = Path(tempfile.mkdtemp(prefix="live-", dir=settings.data / "uploads"))
        try:
            image = folder / "image"
            await run_in_threadpool(image.write_bytes, start.image)
            await run_in_threadpool(check_upload, image, "image", settings)
            await process.tell(
                "begin",
                image=str(image.absolute()),
                model=model,
                settings=dict(start.settings),
                sample_rate=start.sample_rate,
                pcm_format=start.pcm_format,
                segment_seconds=start.segment_seconds,
            )
            is_usable = await self._talk(process)
        finally:
            await asyncio.shield(self._end(process, is_usable, folder))
        # Only now: whoever is told that the session has ended may begin the next one.
        if self._fault is not None:
            await self.refuse(*self._fault)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(_CODES["normal"])

    async def _first_message(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                message = await self._socket.receive()
        except TimeoutError:
            raise InputError(f"No {START} came within {self._settings.idle_seconds:g} s; begin again.") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return parse_message(message.get("text") or "")

    async def _end(self, process: LiveProcess, is_usable: bool, folder: Path) -> None:
        await self._pool.give_back(process, is_usable)
        await run_in_threadpool(shutil.rmtree, folder, True)

    async def _talk(self, process: LiveProcess) -> bool:
        """Speech one way and video the other, until the session ends; whether the process can serve another one."""
        hearing = asyncio.create_task(self._hear(process))
        seeing = asyncio.create_task(self._see(process))
        try:
            async with asyncio.timeout(self._settings.realtime_seconds):
                await asyncio.wait((hearing, seeing), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await process.tell("finish")
            await asyncio.wait((hearing, seeing), timeout=_LAST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hearing.cancel()
        if not seeing.done():
            # The client is gone or has cancelled: nobody takes what still comes.
            self._is_gone = process.is_leaving = True
            await process.tell("cancel")
            await asyncio.wait((seeing,), timeout=_END_SECONDS)
        seeing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await seeing
        return False

    async def _hear(self, process: LiveProcess) -> None:
        """Hand on what the client sends; returns when it is gone, cancels or sends what it must not."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            chunk = message.get("bytes")
            if chunk is not None:
                if len(chunk) > _CHUNK_BYTES:
                    self._fault = "too_large", "A chunk of speech holds at most 4 MiB; send it in pieces.", "refused"
                    return
                await process.speak(chunk)
                continue
            try:
                kind = parse_message(message.get("text") or "")["type"]
            except FantasyTalkingError as error:
                self._fault = "bad_request", str(error), "refused"
                return
            if kind == START:
                self._fault = "bad_request", f"The session has begun already, so {START} cannot come again.", "refused"
                return
            if kind == CANCEL:
                return
            if kind == FINISH:
                await process.tell("finish")

    async def _see(self, process: LiveProcess) -> bool:
        """Hand on what the process makes; whether it can serve another session when this one has ended."""
        async for kind, data in process.packets():
            if kind == VIDEO:
                if not self._is_gone:
                    await self._send(process, self._socket.send_bytes(data))
                continue
            told = json.loads(data)
            what = told.pop("type")
            if self._fault is not None:
                # An error is the last that is said.
                pass
            elif what == "failed":
                how = "internal" if told["code"] == INTERNAL.code else "refused"
                self._fault = told["code"], told["message"], how
            elif what == "started":
                await self._send(process, self._say("session.started", mime=MIME, **told))
            elif what in ("delay", "ended"):
                await self._send(process, self._say(f"session.{what}", **told))
            if what in ("ended", "failed"):
                return True
        self._fault = self._fault or (
            "worker_died",
            "The process of this session ended; begin another one.",
            "internal",
        )
        return False

    async def _send(self, process: LiveProcess, sending: Awaitable[None]) -> None:
        """Send to the client; one that is gone ends the session, whose last packets are read all the same."""
        try:
            await sending
        except (WebSocketDisconnect, RuntimeError):
            if not self._is_gone:
                self._is_gone = True
                await process.tell("cancel")

    async def _say(self, kind: str, **values: Any) -> None:
        await self._socket.send_text(json.dumps({"type": kind, **values}, ensure_ascii=False))
