"""Help texts of options that are written as docstrings below their fields: each as one line for `tyro`, which wraps it.

`tyro` reads such docstrings too, but keeps a line break before every line that begins with a space, which all further lines of an indented
docstring do, so that its help would break off in mid-sentence and go on in the next line.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import tyro

__all__ = ["help_in_one_line"]

_METAVARS = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}


@contextlib.contextmanager
def help_in_one_line(kind: type[Any]) -> Iterator[None]:
    """Within the block, the annotations of a dataclass and of its parts hold their docstrings.

    Args:
        kind: Dataclass of options; the help that an annotation has already is kept.
    """
    before = [(one, dict(one.__annotations__)) for one in _classes(kind)]
    try:
        for one, _ in before:
            hints, texts = get_type_hints(one, include_extras=True), _docstrings(one)
            for name in one.__annotations__.keys() & {field.name for field in dataclasses.fields(one)}:
                added = _plain(one, name, hints)
                if name in texts and not _given(hints[name], "help"):
                    added["help"] = texts[name]
                if added:
                    one.__annotations__[name] = Annotated[hints[name], tyro.conf.arg(**added)]
        yield
    finally:
        for one, annotations in before:
            one.__annotations__.update(annotations)


def _classes(kind: type[Any]) -> Iterator[type[Any]]:
    """A dataclass, its bases and the dataclasses among its fields, as far as they were written in a file."""
    for one in kind.__mro__:
        if dataclasses.is_dataclass(one) and "__annotations__" in vars(one):
            yield one
    for hint in get_type_hints(kind).values():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _classes(hint)


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """Name of a field -> the text below it, in one line; nothing for a class that was made at run time."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found = {}
    for one, below in itertools.pairwise(getattr(body, "body", ())):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[one.target.id] = " ".join(text.split())
    return found


def _plain(kind: type[Any], name: str, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Of an option that may be left out and has no default value: no `(default: None)`, and a metavar without `{None}`."""
    default = next((one.default for one in dataclasses.fields(kind) if one.name == name), dataclasses.MISSING)
    if default not in (None, ()):
        return {}
    hint = hints[name]
    kinds = [one for one in get_args(getattr(hint, "__origin__", hint)) if one is not type(None)]
    metavar = _METAVARS.get(kinds[0]) if default is None and len(kinds) == 1 else None
    if metavar is None or _given(hint, "metavar"):
        return {"help_behavior_hint": ""}
    return {"help_behavior_hint": "", "metavar": metavar}


def _given(hint: Any, what: str) -> bool:
    """Whether an annotation says something itself."""
    return any(getattr(marker, what, None) is not None for marker in getattr(hint, "__metadata__", ()))
