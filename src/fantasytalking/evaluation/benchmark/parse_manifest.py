"""Manifests from JSON, strictly: an unknown or missing key is an error that names it, since a misspelt one would be ignored."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, cast

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.evaluation.benchmark.benchmark_manifest import (
    SCHEMA,
    Case,
    Expectation,
    Manifest,
    MethodSpec,
    Order,
    Picture,
    Same,
    Window,
)
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["check_name", "load_manifest", "read_manifest", "shipped_names"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARE = re.compile(r"\d+(\.\d+)? ?%")
_DIGEST = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")


def check_name(value: Any, where: str) -> str:
    """A name that may also name files and folders, on every system.

    Raises:
        InputError: it may not; `where` is how the message calls it.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InputError(f"{where} must be letters, digits, '_' and '-' (it names files), but {value!r} was given.")
    return value


def shipped_names() -> tuple[str, ...]:
    """Names of the manifests that come with the package."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.json")))


def load_manifest(name: str) -> Manifest:
    """A manifest by its shipped name, or from a file.

    Raises:
        InputError: there is none, or it cannot be used.
        SettingsError: a setting in it does not exist or has a bad value.
    """
    shipped = shipped_names()
    path = _shipped() / f"{name}.json" if name in shipped else Path(name).expanduser()
    if not path.is_file():
        nearest = difflib.get_close_matches(name, shipped, n=1)
        way_out = f"did you mean '{nearest[0]}'?" if nearest else f"give a JSON file, or one of {', '.join(shipped)}."
        raise InputError(f"There is no manifest '{name}'; {way_out}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"The manifest '{path}' is not JSON ({error}); docs/benchmark.md shows the format.") from error
    return read_manifest(raw, f"The manifest '{name}'")


def read_manifest(raw: Any, source: str) -> Manifest:
    """A manifest from plain values, the inverse of `Manifest.to_dict`.

    Args:
        raw: of a JSON file.
        source: how messages call it.

    Raises:
        InputError: unknown or missing keys, wrong types, names twice or unknown.
        SettingsError: a setting that does not exist, or a bad value.
    """
    values = _keys(raw, ("schema", *(f.name for f in dataclasses.fields(Manifest))), source)
    if values["schema"] != SCHEMA:
        raise InputError(f"{source} is of schema {values['schema']!r}, and this version reads {SCHEMA}.")
    manifest = Manifest(
        name=check_name(values["name"], f"{source}: name"),
        description=_typed(values["description"], str, f"{source}: description"),
        terms=_typed(values["terms"], str, f"{source}: terms"),
        cases=_list(values["cases"], _case, f"{source}: cases"),
        methods=_list(values["methods"], _method, f"{source}: methods"),
        expectations=_list(values["expectations"], _expectation, f"{source}: expectations"),
    )
    _check_names(manifest, source)
    return manifest


def _shipped() -> Path:
    return Path(str(files("fantasytalking") / "evaluation" / "manifests"))


def _check_names(manifest: Manifest, source: str) -> None:
    for what, names in (("case", [c.name for c in manifest.cases]), ("method", [m.name for m in manifest.methods])):
        # folded, because some file systems know no difference
        folded = [name.casefold() for name in names]
        twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
        if twice:
            raise InputError(f"{source} has the {what} {', '.join(twice)} more than once; names must differ.")
        if not names:
            raise InputError(f"{source} has no {what}; give one at least.")
    known = [method.name for method in manifest.methods]
    for expectation in manifest.expectations:
        for name in expectation.methods:
            if name not in known:
                raise InputError(
                    f"{source} expects something of the method '{name}', which it has not; its methods are {', '.join(known)}."
                )


def _keys(raw: Any, names: Sequence[str], where: str) -> Mapping[str, Any]:
    """An object with exactly these keys."""
    values: Mapping[str, Any] = _typed(raw, dict, where)
    missing = [name for name in names if name not in values]
    unknown = [name for name in values if name not in names]
    if missing or unknown:
        found = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
        raise InputError(f"{where} {' and '.join(found)}; its keys are {', '.join(names)}.")
    return values


def _typed(value: Any, kind: type, where: str) -> Any:
    number = kind is float and isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, kind) and not number:
        words = {str: "text", float: "a number", dict: "an object", list: "a list"}[kind]
        raise InputError(f"{where} must be {words}, but {value!r} was given.")
    return float(value) if kind is float else value


def _list(raw: Any, read: Callable[[Any, str], T], where: str) -> tuple[T, ...]:
    return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(_typed(raw, list, where)))


def _file(values: Mapping[str, Any], where: str) -> dict[str, str]:
    file, digest = _typed(values["file"], str, f"{where}.file"), values["sha256"]
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file.split("/")[0]:
        raise InputError(f"{where}.file must be a path within the data folder, with '/', but {file!r} was given.")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InputError(f"{where}.sha256 must be 64 lower-case hexadecimal digits, but {digest!r} was given.")
    return {"file": file, "sha256": digest}


def _window(raw: Any, where: str) -> Window:
    values = _keys(raw, ("file", "sha256", "start", "seconds"), where)
    start, seconds = (_typed(values[key], float, f"{where}.{key}") for key in ("start", "seconds"))
    if not 0 <= start < 1e7 or not 0.2 <= seconds <= 86400:
        raise InputError(
            f"{where} must start at 0 s or later and last 0.2 to 86400 s, but start {start:g} and seconds {seconds:g} were given."
        )
    return Window(**_file(values, where), start=start, seconds=seconds)


def _picture(raw: Any, where: str) -> Picture:
    return Picture(**_file(_keys(raw, ("file", "sha256"), where), where))


def _settings(raw: Any, where: str) -> dict[str, Any]:
    values: dict[str, Any] = _typed(raw, dict, where)
    try:
        GenerationSettings.create(values)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error
    return dict(values)


def _case(raw: Any, where: str) -> Case:
    values = _keys(raw, [f.name for f in dataclasses.fields(Case)], where)
    settings = _settings(values["settings"], f"{where}.settings")
    if "prompt" in settings:
        raise InputError(f"{where}.settings must not hold a prompt; the case has a key of its own for it.")
    return Case(
        name=check_name(values["name"], f"{where}.name"),
        identity=_typed(values["identity"], str, f"{where}.identity"),
        reference=_window(values["reference"], f"{where}.reference"),
        portrait=None if values["portrait"] is None else _picture(values["portrait"], f"{where}.portrait"),
        audio=None if values["audio"] is None else _window(values["audio"], f"{where}.audio"),
        prompt=_typed(values["prompt"], str, f"{where}.prompt"),
        settings=settings,
    )


def _method(raw: Any, where: str) -> MethodSpec:
    values = _keys(raw, [f.name for f in dataclasses.fields(MethodSpec)], where)
    if values["speech"] not in ("own", "other"):
        raise InputError(f"{where}.speech must be own or other, but {values['speech']!r} was given.")
    model = _typed(values["model"], str, f"{where}.model")
    if not model or (model.startswith("$") and not re.fullmatch(r"\$[A-Z][A-Z0-9_]*", model)):
        raise InputError(f"{where}.model must be a model's name, a folder, or $ and capitals, but {model!r} was given.")
    return MethodSpec(
        name=check_name(values["name"], f"{where}.name"),
        model=model,
        settings=_settings(values["settings"], f"{where}.settings"),
        speech=cast(Literal["own", "other"], values["speech"]),
        note=_typed(values["note"], str, f"{where}.note"),
    )


def _expectation(raw: Any, where: str) -> Expectation:
    if "same" not in _typed(raw, dict, where):
        values = _keys(raw, ("claim", "column", "higher", "lower"), where)
        return Order(**{key: _typed(value, str, f"{where}.{key}") for key, value in values.items()})
    values = _keys(raw, ("claim", "column", "same", "within"), where)
    pair = _typed(values["same"], list, f"{where}.same")
    if len(pair) != 2:
        raise InputError(f"{where}.same must name two methods, but {pair!r} was given.")
    within = values["within"]
    if isinstance(within, int) and not isinstance(within, bool):
        within = float(within)
    share = isinstance(within, str) and _SHARE.fullmatch(within) and float(within.rstrip(" %")) > 0
    if not share and not (isinstance(within, float) and within > 0):
        raise InputError(f"{where}.within must be a number above 0 or a share such as '5 %', but {within!r} was given.")
    claim, column = (_typed(values[key], str, f"{where}.{key}") for key in ("claim", "column"))
    return Same(claim, column, (str(pair[0]), str(pair[1])), within)
