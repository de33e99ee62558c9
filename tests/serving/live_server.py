"""A real server on a free port of this machine, for what only connections show."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from fantasytalking.serving.api.http_server import server_options
from fantasytalking.serving.server_settings import ServerSettings


@contextlib.contextmanager
def running(app: FastAPI, settings: ServerSettings) -> Iterator[int]:
    """Serve an application within the block; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **{**server_options(settings), "lifespan": "off"}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def exchange(port: int, *pieces: bytes, pause: float = 0.0, wait: float = 60.0) -> bytes:
    """Send pieces with pauses over one connection; gives all that is answered until the server closes it.

    Raises:
        TimeoutError: The server neither answers nor closes it within `wait` seconds.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as line, contextlib.suppress(ConnectionError):
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause)
        while chunk := line.recv(65536):
            answer += chunk
    return answer
