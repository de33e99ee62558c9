"""A server from its settings to its end: one process that listens, and its workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from types import FrameType
from typing import TextIO

import uvicorn

from fantasytalking.errors import SettingsError
from fantasytalking.media.container import restrict_media
from fantasytalking.serving.api.access import check_access
from fantasytalking.serving.api.app import create_app
from fantasytalking.serving.api.http_server import server_options
from fantasytalking.serving.api.service import Service
from fantasytalking.serving.operations.structured_logs import configure_logs
from fantasytalking.serving.server_settings import ServerSettings
from fantasytalking.serving.uploads.file_kinds import MEDIA_FORMATS
from fantasytalking.system.files import full_disk_error
from fantasytalking.system.startup import check_device

__all__ = ["run_server"]

_CONNECTIONS_END = 5
"""Seconds that connections have to end on a stop."""


class _Server(uvicorn.Server):
    """A server whose streams of events end when it is told to stop, and not only when their clients leave."""

    def __init__(self, config: uvicorn.Config, service: Service, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._tell = service, tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which raises the signal again in the end: a stop in order is no failure.
        self._service.closing.set()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def run_server(settings: ServerSettings, out: TextIO) -> int:
    """Serve until a signal ends it: SIGTERM or Ctrl-C.

    Args:
        settings: Of the server.
        out: Takes one line with the address, once it answers.

    Raises:
        SettingsError: A setting cannot be used, or the address is taken.
        OutputError: The data folder cannot be made.
    """
    check_access(settings)
    _check_devices(settings)
    with _listen(settings) as listening:
        # What is sent and made is nobody else's business on this machine; workers inherit it.
        os.umask(0o077)
        with full_disk_error(settings.data):
            settings.data.mkdir(parents=True, exist_ok=True)
        configure_logs(settings.log_format, settings.log_level)
        restrict_media(MEDIA_FORMATS, settings.video_pixels)
        # What is too large for memory goes to this disk, not to a small /tmp.
        tempfile.tempdir = str(settings.data.absolute() / "uploads")
        app = create_app(settings)
        options = {**server_options(settings), "timeout_graceful_shutdown": _CONNECTIONS_END}
        config = uvicorn.Config(app, **options)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        told = f"Serving at http://{shown}:{port}{settings.root_path}/ ; Ctrl-C stops."
        server = _Server(config, app.state.service, lambda: _tell(told, out))
        asyncio.run(server.serve([listening]))
    return 0


def _check_devices(settings: ServerSettings) -> None:
    if settings.engine == "ray" and settings.ray_address:
        # those of the cluster's machines are not known here
        return
    for device in settings.devices:
        check_device(device)


def _tell(line: str, out: TextIO) -> None:
    out.write(f"{line}\n")
    out.flush()


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"The server cannot listen on {settings.host}, port {settings.port} ({reason}); choose another --port or --host."
        ) from error
