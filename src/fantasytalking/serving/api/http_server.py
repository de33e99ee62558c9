"""How uvicorn is set up, and what it lacks: an end for clients that never finish their headers or never read their answer."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from fantasytalking.serving.realtime.live_messages import LIVE_IMAGE_BYTES
from fantasytalking.serving.server_settings import ServerSettings, is_loopback

__all__ = ["server_options"]

_KEEP_ALIVE_SECONDS = 15
_MESSAGE_BYTES = 1024 * 1024
# One address may hold this share of the connections, unless it is a proxy or this machine.
_SHARE = 4


def server_options(settings: ServerSettings) -> dict[str, Any]:
    """Options of `uvicorn.Config`, without the application.

    Args:
        settings: Settings of the server.
    """
    return {
        "host": settings.host,
        "port": settings.port,
        "root_path": settings.root_path,
        # h11 and not httptools, which bounds no headers
        "http": _protocol(settings),
        "h11_max_incomplete_event_size": settings.header_bytes,
        "ws_max_size": max(_MESSAGE_BYTES, min(settings.image_bytes, LIVE_IMAGE_BYTES) * 3 // 2),
        "server_header": False,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
        # what is above is answered 503; the protocol refuses before
        "limit_concurrency": settings.connections * 2,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": max(1, round(settings.stop_seconds)),
        # requests are logged by operations.structured_logs
        "access_log": False,
        "log_config": None,
    }


class BoundedProtocol(H11Protocol):
    """One connection of a server, which `_protocol` gives the server's settings.

    Attributes:
        settings: Uses `idle_seconds`, `connections` and `trusted_proxies`.
    """

    settings: ServerSettings
    _late: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or end one connection too many."""
        super().connection_made(transport)
        if self._is_too_many():
            transport.abort()
            return
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request."""
        super().data_received(data)
        if self.transport.get_protocol() is not self or (self.cycle and not self.cycle.response_complete):
            _cancel(self._late)
            self._late = None
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all timers."""
        _cancel(self._late)
        _cancel(self._stuck)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(self.settings.idle_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with a client that reads."""
        _cancel(self._stuck)
        self._stuck = None
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Leave the time until the next request to uvicorn."""
        _cancel(self._late)
        self._late = None
        super().on_response_complete()

    def _await_request(self) -> None:
        """Give the client its time to complete a request's headers, which pieces of them do not extend."""
        if self._late is None:
            self._late = self.loop.call_later(self.settings.idle_seconds, self.transport.abort)

    def _is_too_many(self) -> bool:
        most = self.settings.connections
        if len(self.connections) > most:
            return True
        address = self.client[0] if self.client else ""
        if not address or is_loopback(address) or _is_in(address, self.settings.trusted_proxies):
            return False
        own = sum((getattr(one, "client", None) or ("",))[0] == address for one in self.connections)
        return bool(own > max(8, most // _SHARE))


def _protocol(settings: ServerSettings) -> type[BoundedProtocol]:
    """The protocol with the limits of a server; uvicorn makes one for each connection."""
    return type("Protocol", (BoundedProtocol,), {"settings": settings})


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _is_in(address: str, networks: Iterable[str]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in networks)
