"""Download of one file from a URL or a folder: resumed, verified, and given its name only once it is complete."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.system.digests import file_sha256

__all__ = ["transfer"]

_CHUNK = 1 << 20
_TIMEOUT = 60.0
_ADVICE = "give a mirror in the variable FANTASYTALKING_WEIGHTS_MIRROR"


def transfer(source: str, target: Path, size: int | None, sha256: str | None, advice: str = _ADVICE) -> None:
    """Download a file, continuing where an earlier attempt stopped.

    Args:
        source: http(s):// or file:// URL, or a path.
        target: Path of the finished file; until it is complete, its name ends in ``.part``.
        size: Expected size in bytes; None where it is not known.
        sha256: Expected SHA-256, all digits or the first ones; None where it is not known.
        advice: What else can be done where the source cannot be reached, for the message.

    Raises:
        CheckpointError: The source cannot be reached, or the content is not the expected one.
        OutputError: The folder cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab")
    except OSError as error:
        raise OutputError(
            f"{target.parent} cannot be written ({error.strerror}); give another folder with FANTASYTALKING_CACHE."
        ) from error
    with stream:
        if size is not None and stream.tell() > size:
            stream.truncate(0)
        if size is None or stream.tell() < size:
            _append(source if "://" in source else Path(source).absolute().as_uri(), stream, target, advice)
    found = part.stat().st_size
    digest = file_sha256(part)
    if (size is not None and found != size) or (sha256 is not None and not digest.startswith(sha256)):
        part.unlink()
        raise CheckpointError(
            f"{source} gave {found:,} bytes with the SHA-256 {digest}, and {target.name} is listed with "
            f"{'an unknown number of' if size is None else f'{size:,}'} bytes and {sha256 or 'none'}; it was deleted, check the source."
        )
    os.replace(part, target)


def _append(url: str, stream: BinaryIO, target: Path, advice: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "fantasytalking"})
    start = stream.tell()
    if start and not url.startswith("file:"):
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if getattr(response, "status", None) != 206:  # the whole file comes, asked for or not
                stream.truncate(0)
            left = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                left -= len(chunk)
        if left > 0:
            raise EOFError(f"it broke off {left:,} bytes early")
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # all of it had arrived
            return
        raise CheckpointError(
            f"{target.name} cannot be fetched: {url} answered with status {error.code}; try again later, or {advice}."
        ) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, EOFError) as error:
        reason = getattr(error, "reason", error)
        raise CheckpointError(
            f"{target.name} cannot be fetched from {url} ({reason}); check the connection or {advice}; "
            "what has arrived is kept."
        ) from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error.strerror or error}); free some space.") from error
