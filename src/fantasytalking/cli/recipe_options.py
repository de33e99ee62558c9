"""Command-line options from a recipe: every field of its records, checked, with its help text."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro

from fantasytalking.cli.options import refuse_unknown
from fantasytalking.errors import SettingsError
from fantasytalking.system.records import FieldDescription, describe

__all__ = ["parse_recipe", "respelt"]

WHOLE = tyro.conf.arg(name="")
"""Marker by which the recipe's own fields become options without a prefix."""


def parse_recipe(title: str, recipe: Any, options: type[Any], words: Sequence[str]) -> Any:
    """Parse options together with a recipe whose fields may be replaced.

    Args:
        title: Name of the recipe and its result.
        recipe: Record whose values are the defaults.
        options: Dataclass of the further options.
        words: Words of the command line.

    Returns:
        A dataclass of the options, with the recipe as `recipe`.

    Raises:
        SettingsError: An option does not exist, or a value is not accepted.
        SystemExit: Help was requested (0), or an option is missing or malformed (2); the reason has been printed.
    """
    leaves, name = dict(_leaves(recipe)), title.partition(":")[0]
    _check_values(words, leaves)
    _explain(recipe)
    field = ("recipe", Annotated[type(recipe), WHOLE], dataclasses.field(default=recipe))
    kind = dataclasses.make_dataclass("Options", [field], bases=(options,), frozen=True, kw_only=True)
    kind.__doc__ = f"Recipe {title}. Every field of the recipe is an option; its default is the recipe's value."
    made, unknown = _read(kind, f"fantasytalking train {name}", words)
    own = ["--" + one.name.replace("_", "-") for one in dataclasses.fields(options)]
    refuse_unknown(unknown, [*leaves, *own], f"train {name}")
    return made


def _read(kind: type[Any], program: str, words: Sequence[str]) -> tuple[Any, list[str]]:
    """Parse the options; returns them and the unknown words. The error of a record replaces the message that tyro prints."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                kind, prog=program, args=list(words), return_unknown_args=True, config=(tyro.conf.FlagCreatePairsOff,)
            )
    except SystemExit as stop:
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, SettingsError):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        sys.stderr.write(shown.getvalue())
        raise


def _leaves(value: Any, prefix: str = "--") -> Iterator[tuple[str, FieldDescription | None]]:
    """Options of a recipe with their descriptions, whose defaults are the recipe's values; None for the sizes of models."""
    for known in describe(type(value)):
        inner, option = getattr(value, known.name), prefix + known.name.replace("_", "-")
        if hasattr(inner, "__pydantic_fields__"):
            yield from _leaves(inner, f"{option}.")
        elif isinstance(inner, tuple) and inner and hasattr(inner[0], "__pydantic_fields__"):
            for number, one in enumerate(inner):
                yield from _leaves(one, f"{option}.{number}.")
        elif isinstance(inner, dict):
            yield from ((f"{option}.{name.replace('_', '-')}", None) for name in inner)
        else:
            yield option, dataclasses.replace(known, default=inner)


def respelt(words: Sequence[str], former: Mapping[str, str]) -> list[str]:
    """Replace former names of options, with a note on stderr for each."""
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        old = next((old for old in former if option == old or (old.endswith(".") and option.startswith(old))), None)
        if old is not None:
            new = former[old] + option.removeprefix(old)
            print(f"note: {option} is now {new}; the former name will go in version 0.3.", file=sys.stderr)
            word = new + equals + value
        found.append(word)
    return found


def _check_values(words: Sequence[str], leaves: Mapping[str, FieldDescription | None]) -> None:
    """Check single values before anything is loaded.

    Raises:
        SettingsError: A field does not accept the given number or word.
    """
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        known = leaves.get(option.replace("_", "-"))
        if known is None or (not equals and place + 1 == len(words)):
            continue
        # lists and flags are left to the record
        if known.choices or known.kind in (int, float):
            named, text = dataclasses.replace(known, name=option), value if equals else words[place + 1]
            try:
                named.check(named.parse(text))
            except SettingsError:
                # as it was typed
                raise SettingsError(named.refusal(text)) from None


def _explain(value: Any) -> None:
    """Add the help text of each field to the docstrings of a recipe's records, where `--help` finds it."""
    kind = type(value)
    if "Attributes:" not in (kind.__doc__ or ""):
        rows = (f"    {one.name}: {one.help}{_range(one)}" for one in describe(kind))
        kind.__doc__ = f"{kind.__doc__}\n\nAttributes:\n" + "\n".join(rows) + "\n"
    for known in describe(kind):
        inner = getattr(value, known.name)
        for one in inner if isinstance(inner, tuple) else (inner,):
            if hasattr(one, "__pydantic_fields__"):
                _explain(one)


def _range(known: FieldDescription) -> str:
    bounded = known.minimum is not None or known.maximum is not None
    return f" Accepts {known.accepted}." if bounded else ""
