"""Processes for live sessions: at most as many as the server allows, each kept for the next session for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from fantasytalking.serving.realtime.live_packets import PCM, Packet, packed, packed_json, receive_packet
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.workers.worker_options import WorkerOptions

__all__ = ["LivePool", "LiveProcess"]

_PAUSE = 0.05
"""Seconds between two looks for room."""

_log = logging.getLogger("fantasytalking.serving.realtime")


class LiveProcess:
    """A process that serves one session at a time.

    Attributes:
        free_since: When it last became free, on the monotonic clock.
        is_leaving: Whether its client has gone, so that it is free in a moment.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.free_since = time.monotonic()
        self.is_leaving = False

    @classmethod
    async def start(cls, options: WorkerOptions) -> LiveProcess:
        """Start one; it loads the frameworks while the session's portrait is on its way."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fantasytalking.serving.realtime.live_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        one = cls(process)
        await one.tell("options", values=json.loads(options.to_json()))
        return one

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.returncode is None

    async def tell(self, kind: str, **values: Any) -> None:
        """Send a JSON object."""
        await self._send(packed_json({"type": kind, **values}))

    async def speak(self, pcm: bytes) -> None:
        """Send speech; waits while there is as much as may wait."""
        await self._send(packed(PCM, pcm))

    async def _send(self, packet: bytes) -> None:
        assert self._process.stdin is not None
        # Its end is found where its packets are read.
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(packet)
            await self._process.stdin.drain()

    async def packets(self) -> AsyncIterator[Packet]:
        """What it sends, to its end."""
        assert self._process.stdout is not None
        while (packet := await receive_packet(self._process.stdout)) is not None:
            yield packet

    async def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class LivePool:
    """The live processes of a server.

    Args:
        settings: `realtime_sessions` says how many there may be, `realtime_keep_seconds` how long one is kept without a session.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._free: list[LiveProcess] = []
        self._used: set[LiveProcess] = set()
        self._taken = 0
        self._closed = False
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether another session may begin."""
        return not self._closed and self._taken < self._settings.realtime_sessions

    async def room_soon(self, seconds: float) -> bool:
        """Whether another session may begin, now or when one whose client has gone has ended: a page that is loaded again asks at once.

        Args:
            seconds: The longest wait for that.
        """
        until = time.monotonic() + seconds
        while not self.has_room and any(one.is_leaving for one in self._used) and time.monotonic() < until:
            await asyncio.sleep(_PAUSE)
        return self.has_room

    async def take(self) -> LiveProcess:
        """A process for a session; `give_back` must follow. The caller has asked `has_room` in the same step of the event loop."""
        self._taken += 1
        while self._free:
            one = self._free.pop()
            if one.is_alive:
                self._used.add(one)
                return one
        try:
            one = await LiveProcess.start(WorkerOptions.of(self._settings, self._settings.devices[0]))
            self._used.add(one)
            return one
        except BaseException:
            self._taken -= 1
            raise

    async def give_back(self, one: LiveProcess, is_usable: bool) -> None:
        """Keep a process for the next session, or end it."""
        self._taken -= 1
        self._used.discard(one)
        one.is_leaving = False
        if is_usable and one.is_alive and not self._closed:
            one.free_since = time.monotonic()
            self._free.append(one)
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep())
        else:
            await one.kill()

    async def close(self) -> None:
        """End the processes that serve no session; the others end with theirs."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._free:
            await self._free.pop().kill()

    async def _sweep(self) -> None:
        keep = self._settings.realtime_keep_seconds
        while self._free:
            await asyncio.sleep(min(1.0, keep))
            for one in [one for one in self._free if time.monotonic() > one.free_since + keep]:
                self._free.remove(one)
                await one.kill()
                _log.info("a live process that was not used ended")
