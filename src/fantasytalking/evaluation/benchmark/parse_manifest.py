"""Manifests from JSON, by name or from a file; an unknown or missing key is an error, since a misspelt one would be ignored."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import SCHEMA, Manifest
from fantasytalking.system.records import nearest_name, read_record

__all__ = ["load_manifest", "read_manifest", "shipped_names"]


def shipped_names() -> tuple[str, ...]:
    """Names of the manifests that come with the package."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.json")))


def load_manifest(name: str) -> Manifest:
    """Read a manifest, by its shipped name or from a file.

    Raises:
        InputError: There is no such manifest, or it cannot be used.
    """
    shipped = shipped_names()
    path = _shipped() / f"{name}.json" if name in shipped else Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"There is no manifest '{name}'; {nearest_name(name, shipped, 'shipped manifests')} A JSON file may be given as well."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"The manifest '{path}' is not JSON ({error}); docs/benchmark.md shows the format.") from error
    return read_manifest(raw, f"The manifest '{name}'")


def read_manifest(raw: Any, source: str) -> Manifest:
    """A manifest from plain values, the inverse of `Manifest.to_dict`.

    Args:
        raw: Content of a JSON file.
        source: Name of the file in messages.

    Raises:
        InputError: Unknown or missing keys, wrong types, names that occur twice or do not exist, settings with bad values.
    """
    if not isinstance(raw, dict):
        raise InputError(f"{source} must be an object, but {raw!r} was given.")
    if raw.get("schema") != SCHEMA:
        raise InputError(f"{source} is of schema {raw.get('schema')!r}, and this version reads {SCHEMA}.")
    return read_record(Manifest, {key: value for key, value in raw.items() if key != "schema"}, source, "key")


def _shipped() -> Path:
    return Path(str(files("fantasytalking") / "evaluation" / "manifests"))
