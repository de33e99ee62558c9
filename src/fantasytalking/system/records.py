"""Records of what people write (settings, protocols, recipes, manifests): frozen, checked by pydantic, errors in one sentence.

```python
@record
class Schedule:
    steps: Annotated[int, field("Optimiser steps.", minimum=1)] = 100
```

A record is a frozen dataclass, so `dataclasses.replace`, `asdict` and `fields` work on it, and `replace` checks again. Numbers are finite,
types are strict: a text is not a number and `True` is not 1, but a whole number may be written as a decimal one and the other way
round, and a number of NumPy or PyTorch counts as Python's. Every error is a `SettingsError` that names the field, the value, what is
accepted and, for a misspelt name, the nearest one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fantasytalking.errors import SettingsError

__all__ = ["FieldDescription", "closest_name", "describe", "field", "nearest_name", "read_record", "record"]

T = TypeVar("T")
_CONFIG = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_CONTAINERS = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "dataclass_type": "an object",
}


@dataclass(frozen=True)
class FieldDescription:
    """One field of a record, for whoever makes a form, a command line or a table of it.

    Attributes:
        name: Field name; the command line writes it with dashes.
        kind: Type of a value (`str` where there are choices).
        optional: Whether None is accepted.
        default: Value where none is given; `dataclasses.MISSING` where one must be given.
        minimum: Smallest accepted number, or None.
        maximum: Largest accepted number, or None.
        multiple: Number of which an accepted one is a multiple, or None.
        choices: Accepted words, or empty.
        unit: Unit of the value, or "".
        help: One sentence.
    """

    name: str
    kind: Any
    optional: bool
    default: Any
    minimum: float | None
    maximum: float | None
    multiple: int | None
    choices: tuple[str, ...]
    unit: str
    help: str

    @property
    def option(self) -> str:
        """Name of the command line option."""
        return "--" + self.name.replace("_", "-")

    @property
    def accepted(self) -> str:
        """The accepted values in words, for messages and tables."""
        if self.choices:
            words = " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
            return words + (" or nothing" if self.optional else "")
        words = _KINDS.get(self.kind, "another value")
        if self.multiple is not None:
            words = "an even number" if self.multiple == 2 else f"a multiple of {self.multiple}"
        if self.minimum is not None and self.maximum is not None:
            words += f" from {plain(self.minimum)} to {plain(self.maximum)}"
        elif self.minimum is not None:
            words += f" of at least {plain(self.minimum)}"
        elif self.maximum is not None:
            words += f" of at most {plain(self.maximum)}"
        return words + (" or nothing" if self.optional else "")

    def parse(self, text: str) -> Any:
        """Read a value from text, as on a command line: its type is checked here, its range when the record is made.

        Where None is accepted, "none" and "auto" stand for it.

        Raises:
            SettingsError: The text is no value of this type.
        """
        if self.optional and text.lower() in ("none", "auto"):
            return None
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            return self.kind(text) if self.kind in (int, float) else text
        except (KeyError, ValueError):
            raise SettingsError(self.refusal(text)) from None

    def check(self, value: Any) -> Any:
        """Return a parsed value if it is one of the choices and within the range.

        Raises:
            SettingsError: It is not.
        """
        lowest = -math.inf if self.minimum is None else self.minimum
        highest = math.inf if self.maximum is None else self.maximum
        bounded = self.kind in (int, float) and value is not None
        if (
            (self.choices and value is not None and value not in self.choices)
            or (bounded and (value in (math.inf, -math.inf) or not lowest <= value <= highest))
            or (bounded and self.multiple is not None and value % self.multiple)
        ):
            raise SettingsError(self.refusal(value))
        return value

    def refusal(self, value: Any) -> str:
        """The sentence about a value that is not accepted."""
        unit = f" ({self.unit})" if self.unit else ""
        nearest = closest_name(str(value), self.choices)
        if nearest:
            end = f"; did you mean {nearest!r}?"
        else:
            end = "." if self.default is dataclasses.MISSING else f"; leave it out for {_shown(self.default)}."
        return f"{self.name} must be {self.accepted}{unit}, but {value!r} was given{end}"


def field(
    help: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    multiple: int | None = None,
    unit: str = "",
) -> Any:
    """Describe a field for `typing.Annotated`: accepted values and meaning.

    Args:
        help: One sentence.
        minimum: Smallest accepted number.
        maximum: Largest accepted number.
        multiple: Number of which an accepted one is a multiple.
        unit: Unit of the value.
    """
    extra: Any = {"unit": unit} if unit else None
    return pydantic.Field(ge=minimum, le=maximum, multiple_of=multiple, description=help, json_schema_extra=extra)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(kind: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose values are checked whenever one is made."""
    made = pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)(kind)
    checked = made.__init__

    def __init__(self: Any, *args: Any, **values: Any) -> None:  # noqa: N807 - takes the place of the one that pydantic made
        # by name, so that errors name the field and not its position
        named = dict(zip((one.name for one in dataclasses.fields(made)), args, strict=False))
        try:
            checked(self, *args[len(named) :], **_with_plain_numbers(made, named | values))
        except pydantic.ValidationError as error:
            raise SettingsError(_sentence(made, _worst(error), "")) from None

    __init__.__doc__ = checked.__doc__
    # its signature is shown
    __init__.__wrapped__ = checked  # type: ignore[attr-defined]
    made.__init__ = __init__  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def read_record(kind: type[T], values: Mapping[str, Any], where: str = "", what: str = "setting") -> T:
    """A record of plain values, as JSON has them: lists for tuples, objects for nested records.

    Args:
        kind: A class made by `record`.
        values: Name -> value; what JSON cannot hold goes in as text, such as paths.
        where: Named in errors, such as the path of the file.
        what: What a name is called in errors.

    Raises:
        SettingsError: An unknown or missing name, or a bad value.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(values, default=str))
    except pydantic.ValidationError as error:
        raise SettingsError(_sentence(kind, _worst(error), where, what)) from None


def describe(kind: type[Any]) -> tuple[FieldDescription, ...]:
    """Every field of a record in order."""
    infos: Mapping[str, FieldInfo] = kind.__pydantic_fields__
    return tuple(_describe(name, info) for name, info in infos.items())


def nearest_name(name: str, names: Iterable[str], what: str = "") -> str:
    """The end of a sentence about a name that does not exist: the nearest one, or all of them.

    Args:
        name: As it was given.
        names: Those that exist.
        what: What they are called together, such as "settings".

    Returns:
        ``did you mean 'steps'?`` or ``the settings are steps, seed.``
    """
    known = list(names)
    nearest = closest_name(name, known)
    if nearest:
        return f"did you mean {nearest!r}?"
    return f"the {what} are {', '.join(known)}." if what else f"choose from {', '.join(known)}."


def closest_name(name: str, names: Iterable[str], likeness: float = 0.5) -> str:
    """The name that was probably meant, capitals aside; "" where none is near.

    Args:
        name: Name as it was given.
        names: Names that exist.
        likeness: Lowest ratio of `difflib` that counts as near, 0 to 1.
    """
    plainly = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), plainly, n=1, cutoff=likeness)
    return plainly[found[0]] if found else ""


def plain(value: Any) -> str:
    """A number without a needless end, anything else as text."""
    return f"{value:.15g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)


def _with_plain_numbers(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with Python's numbers for those of NumPy and PyTorch, and 4 for 4.0 where the field is a whole number."""
    infos: Mapping[str, FieldInfo] = kind.__pydantic_fields__
    whole = {name for name, info in infos.items() if info.annotation in (int, int | None)}
    # a scalar of either has no dimensions; neither library is imported for that
    numbers = {name: value.item() if getattr(value, "ndim", None) == 0 else value for name, value in values.items()}
    return {
        name: int(value) if name in whole and isinstance(value, float) and value.is_integer() else value
        for name, value in numbers.items()
    }


def _describe(name: str, info: FieldInfo) -> FieldDescription:
    hint, optional = info.annotation, False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(hint))
        hint = parts[0] if len(parts) == 1 else hint
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    bounds = {
        kind: value
        for m in info.metadata
        for kind in ("ge", "le", "multiple_of")
        if (value := getattr(m, kind, None)) is not None
    }
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return FieldDescription(
        name=name,
        kind=str if choices else hint,
        optional=optional,
        default=dataclasses.MISSING if info.is_required() else info.get_default(call_default_factory=True),
        minimum=bounds.get("ge"),
        maximum=bounds.get("le"),
        multiple=bounds.get("multiple_of"),
        choices=tuple(map(str, choices)),
        unit=str(extra.get("unit", "")),
        help=info.description or "",
    )


def _worst(error: pydantic.ValidationError) -> ErrorDetails:
    """The error to report: a misspelt name before the name that is missing for it."""
    return min(error.errors(), key=lambda one: one["type"] not in _UNKNOWN)


def _sentence(kind: type[Any], error: ErrorDetails, where: str, what: str = "setting") -> str:
    owner, known, path = _owner(
        kind, [part for part in error["loc"] if isinstance(part, int) or not part.startswith(("function-", "tagged-"))]
    )
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    place = f"{where}: " if where else ""
    if error["type"] in _UNKNOWN:
        names = [one.name for one in describe(owner)]
        return f"{place}There is no {what} {name!r}; {nearest_name(str(path[-1]), names, f'{what}s')}"
    if error["type"] in ("missing", "missing_argument"):
        wanted = f" ({known.accepted})" if known is not None and known.kind in _KINDS else ""
        return f"{place}{name} is missing{wanted}; give it."
    if error["type"] in ("value_error", "assertion_error"):
        cause = str(error.get("ctx", {}).get("error") or error["msg"])
        # A check of one value says what it "must be"; one of a whole record, inside another, says what is wrong with it.
        return place + (f"{name} {cause}" if cause.startswith("must ") else f"{name}: {cause}" if path[1:] else cause)
    if error["type"] in _CONTAINERS:
        return f"{place}{name} must be {_CONTAINERS[error['type']]}, but {error['input']!r} was given."
    if known is None or known.accepted == "another value":
        return f"{place}{name} cannot be {error['input']!r}: {error['msg']}."
    return place + dataclasses.replace(known, name=name).refusal(error["input"])


def _shown(default: Any) -> str:
    return "the model's own" if default is None else repr(default)


def _owner(kind: type[Any], path: list[int | str]) -> tuple[type[Any], FieldDescription | None, list[int | str]]:
    """The record that the last name of a path belongs to.

    Returns:
        The record, the description of the field that the path ends with (None where it is not one), and the path without the names
        of records that pydantic puts where several are accepted.
    """
    owner: Any = kind
    known: FieldDescription | None = None
    inside: list[Any] = []
    names: list[int | str] = []
    for part in path:
        chosen = [one for one in inside if one.__name__ == part]
        if chosen:
            inside = chosen
            continue
        names.append(part)
        if isinstance(part, int):
            continue
        owner = inside[0] if inside else owner
        if not hasattr(owner, "__pydantic_fields__"):
            known = None
            continue
        known = next((one for one in describe(owner) if one.name == part), None)
        inside = [] if known is None else list(_records(known.kind))
    return owner, known, names


def _records(hint: Any) -> Iterator[Any]:
    """Every record in an annotation, such as those of a tuple of records."""
    if hasattr(hint, "__pydantic_fields__"):
        yield hint
    for one in typing.get_args(hint):
        yield from _records(one)
