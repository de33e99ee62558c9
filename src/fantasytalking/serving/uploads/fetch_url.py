"""Fetch a portrait or speech by https, from hosts that the operator lists, and never from a private address.

The address is checked after the name is resolved, and that very address is connected to, so that a name that changes its mind in between
(DNS rebinding) leads nowhere. Each redirect is a new address, which is checked like the first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.serving.uploads.file_kinds import FileTooLarge

__all__ = ["CheckedNetwork", "check_url", "fetch_url", "refuse_private"]

_MOST_REDIRECTS = 3
_HTTPS_PORT = 443
_REDIRECTS = (301, 302, 303, 307, 308)
_NETWORK_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.ConnectionNotAvailable,
)


def check_url(url: str, hosts: Iterable[str]) -> str:
    """Check an address by its text.

    Args:
        url: As a client gave it.
        hosts: Hosts that may be asked.

    Returns:
        Its host.

    Raises:
        SettingsError: No URL is fetched, it is not https, names a user or another port, or its host is not listed.
    """
    listed = {host.lower() for host in hosts}
    if not listed:
        raise SettingsError("This server fetches no URL; send the file itself.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise SettingsError("The URL cannot be read; give one that begins with https://.") from None
    if parts.scheme != "https" or parts.username is not None or port not in (None, _HTTPS_PORT):
        raise SettingsError("The URL must begin with https://, without a user and without a port.")
    if host not in listed:
        raise SettingsError("The URL leads to a host that this server does not fetch from; send the file itself.")
    return host


def refuse_private(address: str) -> None:
    """Refuse an address that is not one of the public internet.

    Raises:
        InputError: It is private, of this machine, link-local, multicast or reserved, also inside of an IPv6 address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    teredo = getattr(found, "teredo", None)
    for one in filter(None, (found, inner, *(teredo or ()))):
        if not one.is_global or one.is_multicast or one.is_reserved:
            raise InputError("The URL leads to an address that is not public; send the file itself.")


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connections to public addresses only: a name is resolved here, once, and the address that was checked is the one that is used."""

    def __init__(self, backend: httpcore2.AsyncNetworkBackend | None = None) -> None:
        self._backend = backend or httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a host.

        Raises:
            InputError: The host does not exist, or one of its addresses is not public.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise InputError("The host of the URL is not found; check it.") from None
        addresses = [str(one[4][0]) for one in found]
        for address in addresses:
            refuse_private(address)
        return await self._backend.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Never connect to a socket of this machine."""
        raise InputError("The URL leads to this machine; send the file itself.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._backend.sleep(seconds)


async def fetch_url(url: str, path: Path, most_bytes: int, hosts: Iterable[str], seconds: float) -> None:
    """Fetch a file.

    Args:
        url: As a client gave it.
        path: New file to write.
        most_bytes: Its largest size.
        hosts: Hosts that may be asked.
        seconds: Longest time for all of it.

    Raises:
        InputError: The URL is refused (see `check_url` and `refuse_private`), or does not answer with a file in time.
        FileTooLarge: The file is larger.
    """
    listed = tuple(hosts)
    check_url(url, listed)
    context = ssl.create_default_context()
    try:
        async with (
            asyncio.timeout(seconds),
            httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=CheckedNetwork()) as connections,
        ):
            for _ in range(_MOST_REDIRECTS + 1):
                async with connections.stream("GET", url, headers=_headers(url)) as answer:
                    if answer.status in _REDIRECTS:
                        url = urljoin(url, _header(answer, b"location"))
                        check_url(url, listed)
                        continue
                    if answer.status != 200:
                        raise InputError(f"The URL answers {answer.status}; check it, or send the file itself.")
                    await _store(answer, path, most_bytes)
                    return
    except TimeoutError:
        raise InputError(f"The URL does not send its file within {seconds:g} s; send the file itself.") from None
    except (*_NETWORK_ERRORS, ssl.SSLError, OSError, UnicodeError):
        raise InputError("The URL cannot be fetched; check it, or send the file itself.") from None
    raise InputError(f"The URL leads on more than {_MOST_REDIRECTS} times; give the last one.")


def _headers(url: str) -> list[tuple[str, str]]:
    # no compression, so that the bytes that are counted are those of the file
    return [("host", urlsplit(url).netloc), ("accept-encoding", "identity"), ("user-agent", "fantasytalking")]


def _header(answer: httpcore2.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), "")


async def _store(answer: httpcore2.Response, path: Path, most_bytes: int) -> None:
    size = 0
    with open(path, "xb") as stream:
        async for chunk in answer.aiter_stream():
            size += len(chunk)
            if size > most_bytes:
                raise FileTooLarge(f"The file of the URL has more than {most_bytes:,} bytes; give a smaller one.")
            stream.write(chunk)
