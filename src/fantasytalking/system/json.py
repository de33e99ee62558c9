"""JSON files: read where they may be missing or damaged, written complete or not at all, appended to line by line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fantasytalking.errors import SettingsError
from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = [
    "append_json_line",
    "json_text",
    "numbered_lines",
    "parse_json_row",
    "read_json",
    "read_json_lines",
    "read_json_object",
    "write_json",
    "write_strict_json",
]


def read_json(path: Path) -> Any:
    """The value in a file; None where there is no such file, or what it holds is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no such file, or what it holds is not an object."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Any, indent: int | None = None, ascii_only: bool = True) -> None:
    """Write a value and a line end; the file is replaced in one go.

    Args:
        path: The file.
        value: Of plain types.
        indent: Spaces a level; None writes one line.
        ascii_only: Whether other characters are written as escapes.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(value, indent=indent, ensure_ascii=ascii_only) + "\n", "utf-8")


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add an object as a line; a line that a killed process left unfinished is closed first.

    Raises:
        OutputError: The file cannot be written.
    """
    line = json.dumps(record) + "\n"
    with full_disk_error(path), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; lines that were cut off are left out, and a missing file has no lines."""
    found = []
    for line in path.read_text("utf-8", errors="replace").split("\n") if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, numbered from 1.

    Only line feeds end a line: JSON texts may hold the other separators of Unicode. A byte-order mark, as editors on Windows write it,
    is no part of the text.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is not in UTF-8.
    """
    lines = enumerate(path.read_text("utf-8-sig").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def parse_json_row(line: str, where: str, advice: str) -> dict[str, Any]:
    """The object in a line of a file from outside.

    Args:
        line: The line.
        where: Its place, which begins the sentence of an error.
        advice: What to do, which ends it.

    Raises:
        SettingsError: The line is not a JSON object.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SettingsError(f"{where} is not JSON ({error}); {advice}.") from error
    if not isinstance(row, dict):
        raise SettingsError(f"{where} must be a JSON object, but {line.strip()[:80]} was given; {advice}.")
    return row


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON of a value, the same text for the same value.

    Numbers that are not finite become null, arrays and tensors lists, and bytes of file names that are not Unicode backslash escapes.

    Args:
        value: Mappings, lists, tuples, arrays, texts, numbers, booleans, None.
        indent: Spaces a level; None gives one line.
    """
    return json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, indent=indent)


def write_strict_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write the `json_text` of a value and a line end; the file is replaced in one go.

    Args:
        path: The file.
        value: See `json_text`.
        indent: Spaces a level; None writes one line.

    Raises:
        OutputError: The file cannot be written.
    """
    text = json_text(value, indent) + "\n"
    with full_disk_error(path), atomic_path(path, overwrite=True) as temporary:
        temporary.write_bytes(text.encode())


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_strict(str(key)): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
