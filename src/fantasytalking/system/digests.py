"""SHA-256 digests of files and folders; verified ones are kept in a stamp, so that a large file is hashed once and not at each start."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.system.json import read_json, write_json

__all__ = ["file_fingerprint", "file_sha256", "fraction_of", "json_sha256", "verified_digest"]

_SAMPLED = 1 << 16


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_fingerprint(path: Path) -> str:
    """Hash of a file's size, beginning and end (64 KiB each), which is cheap for any size and differs if the file was replaced.

    Returns:
        32 hexadecimal digits, or nothing if the file cannot be read.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            digest = hashlib.sha256(str(size).encode() + file.read(_SAMPLED))
            file.seek(max(0, size - _SAMPLED))
            digest.update(file.read(_SAMPLED))
    except OSError:
        return ""
    return digest.hexdigest()[:32]


def json_sha256(value: Any) -> str:
    """SHA-256 of a value of plain types, 64 hexadecimal digits; the order of names does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fraction_of(text: str) -> float:
    """Number in [0, 1) that depends on the text alone, for draws that are the same on every machine."""
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def verified_digest(path: Path, listed: str | None) -> str:
    """SHA-256 of a file, or of a folder's list of digests, checked against the digest that it should have.

    Args:
        path: A file, or a folder whose hidden files do not count.
        listed: The expected digest, all 64 digits or the first ones; None expects what the content was when it was first used.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: The digest is not the expected one.
    """
    stamp_path = path.with_name(f".{path.name}.stamp")
    stamp, state = _read_stamp(stamp_path), _state(path)
    if stamp.get("state") == state and str(stamp.get("sha256", "")).startswith(listed or ""):
        return str(stamp["sha256"])
    found = file_sha256(path) if path.is_file() else _folder_sha256(path)
    expected = listed or stamp.get("sha256")
    if expected is not None and not found.startswith(expected):
        first = "listed" if listed else f"that of the copy first used (noted in {stamp_path.name})"
        other = "" if listed else f", or delete {stamp_path.name} beside it to use it as it is now"
        raise CheckpointError(
            f"{path} has the SHA-256 {found}, not {expected}, which is {first}; delete it and fetch it again{other}."
        )
    # A stamp that cannot be written only costs time: the next start hashes again.
    with contextlib.suppress(OSError, OutputError):
        write_json(stamp_path, {"sha256": found, "state": state})
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


def _state(path: Path) -> list[list[Any]]:
    base = path if path.is_dir() else path.parent
    return [[f.relative_to(base).as_posix(), f.stat().st_size, f.stat().st_mtime_ns] for f in _files(path)]


def _folder_sha256(path: Path) -> str:
    lines = [f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_stamp(path: Path) -> dict[str, Any]:
    stamp = read_json(path)
    return stamp if isinstance(stamp, dict) else {}
