"""URLs are fetched from listed hosts only, and never from an address that is not public."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpcore2
import pytest

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.serving.uploads.fetch_url import CheckedNetwork, check_url, fetch_url, refuse_private


def test_no_url_is_fetched_unless_hosts_are_listed() -> None:
    with pytest.raises(SettingsError, match="fetches no URL; send the file itself"):
        check_url("https://pictures.example/a.png", ())
    assert check_url("https://Pictures.example/a.png", ("pictures.example",)) == "pictures.example"


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example/a",
        "file:///etc/passwd",
        "https://pictures.example:8443/a",
        "https://user@pictures.example/a",
        "https://pictures.example@evil.example/a",
        "https://evil.example/pictures.example",
        "https://pictures.example.evil.example/",
        "https://[::1",
        "https://pictures.example:99999999/",
        "//pictures.example/a",
        "",
    ],
)
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        check_url(url, ("pictures.example",))


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "2002:7f00:0001::", "2001:0:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="not public"):
        refuse_private(address)


def test_public_addresses_are_accepted() -> None:
    for address in ("8.8.8.8", "2606:4700:4700::1111"):
        refuse_private(address)


def test_the_address_is_checked_where_it_is_connected_to(tmp_path: Path) -> None:
    # localhost stands for a listed name that points at this machine
    with pytest.raises(InputError, match="not public"):
        asyncio.run(fetch_url("https://localhost/a.png", tmp_path / "a", 1000, ("localhost",), 5.0))
    assert not list(tmp_path.iterdir())


class _Recorder(httpcore2.AsyncMockBackend):
    """Remembers what is connected to."""

    def __init__(self, answer: bytes) -> None:
        super().__init__([answer])
        self.asked: list[str] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # type: ignore[no-untyped-def]
        self.asked.append(host)
        return await super().connect_tcp(host, port, timeout, local_address, socket_options)


def test_the_checked_address_is_the_one_that_is_used() -> None:
    recorder = _Recorder(b"")
    asyncio.run(CheckedNetwork(recorder).connect_tcp("8.8.8.8", 443))
    assert recorder.asked == ["8.8.8.8"]
    with pytest.raises(InputError, match="not public"):
        asyncio.run(CheckedNetwork(recorder).connect_tcp("localhost", 443))
    assert recorder.asked == ["8.8.8.8"]
