"""Command-line options made from a record: names, types, defaults and help come from its fields."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeVar

import tyro

from fantasytalking.system.records import FieldDescription, describe

__all__ = ["make_record", "option_type", "record_options"]

T = TypeVar("T")


def record_options(kind: type[Any]) -> type[Any]:
    """A plain dataclass with the fields of a record, for `tyro`.

    It checks types alone. Ranges are checked when the record is made of it, so that the error is that of the record and not a
    box that `tyro` draws around it.

    Args:
        kind: A class made by `record`, all fields of which have defaults.
    """
    fields = [(known.name, option_type(known), dataclasses.field(default=known.default)) for known in describe(kind)]
    options = dataclasses.make_dataclass(f"{kind.__name__}Options", fields, frozen=True)
    options.__doc__ = (kind.__doc__ or "").split("\n\n")[0]
    return options


def make_record(kind: type[T], options: Any) -> T:
    """The record whose options were given.

    Args:
        kind: The record.
        options: An object of `record_options(kind)`.

    Raises:
        SettingsError: A value is not accepted.
    """
    return kind(**{known.name: getattr(options, known.name) for known in describe(kind)})


def option_type(known: FieldDescription) -> Any:
    """Type of an option, annotated with its help text: meaning, accepted values, unit."""
    value: Any = Literal[known.choices] if known.choices else known.kind
    unit = f" ({known.unit})" if known.unit else ""
    bounded = any(bound is not None for bound in (known.minimum, known.maximum, known.multiple))
    accepted = f" Accepts {known.accepted}{unit}." if bounded else unit
    argument = tyro.conf.arg(help=f"{known.help}{accepted}")
    return Annotated[value | None if known.optional else value, argument]
