"""Command-line options from a recipe: every field of its records, checked, with its help text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro

from fantasytalking.cli.options import parse_words
from fantasytalking.cli.record_options import option_type
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.records import FieldDescription, describe
from fantasytalking.training.trainer.model_sizes import ModelSizes

__all__ = ["as_typed", "parse_recipe", "respelt"]

WHOLE = tyro.conf.arg(name="")
"""Marker by which the recipe's own fields become options without a prefix."""
_FIRST_WORDS = re.compile(r"[\w.]+")


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
        SettingsError: An option does not exist or is missing, or a value is not accepted.
        SystemExit: Help was requested (0).
    """
    leaves, name = dict(_leaves(recipe)), title.partition(":")[0]
    words = _check_values(words, leaves)
    mirror = _mirror(recipe)
    field = ("recipe", Annotated[type(mirror), WHOLE], dataclasses.field(default=mirror))
    kind = dataclasses.make_dataclass("Options", [field], bases=(options,), frozen=True, kw_only=True)
    kind.__doc__ = f"Recipe {title}. Every field of the recipe is an option; its default is the recipe's value."
    own = ["--" + one.name.replace("_", "-") for one in dataclasses.fields(options)]
    made: Any = parse_words(kind, f"train {name}", words, [*leaves, *own])
    return dataclasses.replace(made, recipe=_made(recipe, made.recipe, "--"))


def _leaves(value: Any, prefix: str = "--") -> Iterator[tuple[str, FieldDescription]]:
    """Options of a recipe with their descriptions, whose defaults are the recipe's values."""
    for known in describe(type(value)):
        inner, option = getattr(value, known.name), prefix + _dashed(known.name)
        if _is_record(inner):
            yield from _leaves(inner, f"{option}.")
        elif _are_records(inner):
            for number, one in enumerate(inner):
                yield from _leaves(one, f"{option}.{number}.")
        elif isinstance(inner, dict):
            yield from ((f"{option}.{_dashed(one.name)}", one) for one in _sizes(inner))
        elif not _absent(known, inner):
            yield option, dataclasses.replace(known, default=inner)


def _mirror(value: Any) -> Any:
    """A plain dataclass object with the values of a record, for `tyro`, whose types alone are checked when it is parsed.

    Nested records become dataclasses too, and a dict of sizes one with a field for each size. Ranges are checked when the record is made
    of it (see `_made`), so that the error is that of the record and not a box that `tyro` draws around it.
    """
    fields: list[Any] = []
    for known in describe(type(value)):
        inner = getattr(value, known.name)
        if _is_record(inner) or isinstance(inner, dict):
            made = _mirror(inner) if _is_record(inner) else _dict_mirror(known.name, inner)
            fields.append((known.name, Annotated[type(made), tyro.conf.arg(help=known.help)], _default(made)))
        elif _are_records(inner):
            parts = tuple(_mirror(one) for one in inner)
            fields.append((known.name, tuple[tuple(type(part) for part in parts)], _default(parts)))  # type: ignore[misc]
        elif not _absent(known, inner):
            fields.append((known.name, option_type(known), _default(inner)))
    mirror: Any = dataclasses.make_dataclass(f"{type(value).__name__}Options", fields, frozen=True)
    # shown where a group of options has no text of its own
    mirror.__doc__ = (type(value).__doc__ or "").split("\n\n")[0]
    return mirror()


def _dict_mirror(name: str, sizes: Mapping[str, Any]) -> Any:
    fields: list[Any] = [(one.name, option_type(one), _default(one.default)) for one in _sizes(sizes)]
    return dataclasses.make_dataclass(f"{name.title()}Options", fields, frozen=True)()


def _made(value: Any, given: Any, prefix: str) -> Any:
    """The record with the values of its mirror.

    Raises:
        SettingsError: A value is not accepted; the error names the option.
    """
    changed: dict[str, Any] = {}
    for known in describe(type(value)):
        inner, option = getattr(value, known.name), prefix + _dashed(known.name)
        if not hasattr(given, known.name):
            continue
        new = getattr(given, known.name)
        if _is_record(inner):
            new = _made(inner, new, f"{option}.")
        elif _are_records(inner):
            pairs = enumerate(zip(inner, new, strict=True))
            new = tuple(_made(one, part, f"{option}.{number}.") for number, (one, part) in pairs)
        elif isinstance(inner, dict):
            new = {one.name: getattr(new, one.name) for one in dataclasses.fields(new)}
        changed[known.name] = new
    try:
        return dataclasses.replace(value, **changed)
    except SettingsError as error:
        raise SettingsError(as_typed(str(error), prefix, changed)) from None


def as_typed(message: str, prefix: str, fields: Iterable[str]) -> str:
    """The message with the name of the field that it begins with as the option is typed."""
    found = _FIRST_WORDS.match(message)
    name = "" if found is None else found.group().rstrip(".")
    if name.split(".")[0] not in fields:
        return message
    return prefix + _dashed(name) + message[len(name) :]


def _default(value: Any) -> Any:
    return dataclasses.field(default=value)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _is_record(value: Any) -> bool:
    return hasattr(value, "__pydantic_fields__")


def _are_records(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and _is_record(value[0])


def _absent(known: FieldDescription, value: Any) -> bool:
    """Whether a part that the recipe leaves out is no option: LoRA is the business of recipes that have it."""
    return value is None and hasattr(known.kind, "__pydantic_fields__")


def _sizes(sizes: Mapping[str, Any]) -> list[FieldDescription]:
    """Descriptions of the sizes in a dict, whose defaults are its values."""
    return [dataclasses.replace(one, default=sizes[one.name]) for one in describe(ModelSizes) if one.name in sizes]


def respelt(words: Sequence[str], former: Mapping[str, str]) -> list[str]:
    """Replace former names of options, with a note on stderr for each."""
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        old = next((old for old in former if option == old or (old.endswith(".") and option.startswith(old))), None)
        if old is not None:
            new = former[old] + option.removeprefix(old)
            show_note(f"{option} is now {new}; the former name will go in version 0.3.")
            word = new + equals + value
        found.append(word)
    return found


def _check_values(words: Sequence[str], leaves: Mapping[str, FieldDescription]) -> list[str]:
    """Check single values before anything is parsed.

    Returns:
        The words, with the one spelling of nothing that `tyro` knows.

    Raises:
        SettingsError: A field does not accept the given number or word.
    """
    checked = list(words)
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        known = leaves.get(option.replace("_", "-"))
        if known is None or (not equals and place + 1 == len(words)):
            continue
        # lists and flags are left to the record
        if known.choices or known.kind in (int, float):
            named, text = dataclasses.replace(known, name=option), value if equals else words[place + 1]
            try:
                parsed = named.check(named.parse(text))
            except SettingsError:
                # as it was typed
                raise SettingsError(named.refusal(text)) from None
            if parsed is None:
                checked[place if equals else place + 1] = f"{option}=None" if equals else "None"
    return checked
