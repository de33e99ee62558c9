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
from collections.abc import Iterator
from typing import Annotated, Any, get_type_hints

import tyro

__all__ = ["help_in_one_line"]


@contextlib.contextmanager
def help_in_one_line(kind: type[Any]) -> Iterator[None]:
    """Within the block, the annotations of a dataclass and of its parts hold their docstrings.

    Args:
        kind: Dataclass of options; the help that an annotation has already is kept.
    """
    before = [(one, dict(one.__annotations__)) for one in _classes(kind)]
    try:
        for one, _ in before:
            hints = get_type_hints(one, include_extras=True)
            for name, text in _docstrings(one).items():
                if not any(getattr(marker, "help", None) for marker in getattr(hints[name], "__metadata__", ())):
                    one.__annotations__[name] = Annotated[hints[name], tyro.conf.arg(help=text)]
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
