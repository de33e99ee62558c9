"""Digests of weights, kept in a stamp so that a large file is hashed once and not at each start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fantasytalking.errors import CheckpointError

__all__ = ["file_sha256", "json_sha256", "verified_digest"]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a value of plain types, 64 hexadecimal digits; the order of names does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def verified_digest(path: Path, listed: str | None) -> str:
    """The SHA-256 of a file, or of a folder's list of digests, checked.

    Args:
        path: A file, or a folder whose hidden files do not count.
        listed: All 64 digits, the first 8, or None: then it must stay what it was when it was first used.

    Returns:
        64 hexadecimal digits.

    Raises:
        CheckpointError: Another content.
    """
    stamp_path = path.with_name(f".{path.name}.stamp")
    stamp, state = _read(stamp_path), _state(path)
    if stamp.get("state") == state and str(stamp.get("sha256", "")).startswith(listed or ""):
        return str(stamp["sha256"])
    found = file_sha256(path) if path.is_file() else _folder_sha256(path)
    expected = listed or stamp.get("sha256")
    if expected is not None and not found.startswith(expected):
        first = "listed" if listed else f"that of the copy first used (noted in {stamp_path.name})"
        raise CheckpointError(
            f"{path} has the SHA-256 {found}, not {expected}, which is {first}; delete it and fetch it again."
        )
    _write(stamp_path, {"sha256": found, "state": state})
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


def _read(path: Path) -> dict[str, Any]:
    try:
        stamp = json.loads(path.read_text())
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def _write(path: Path, stamp: dict[str, Any]) -> None:
    # A cache that cannot be written is only slower: the next start hashes again.
    with contextlib.suppress(OSError):
        beside = path.with_name(f"{path.name}.{os.getpid()}.part")
        beside.write_text(json.dumps(stamp))
        os.replace(beside, path)
