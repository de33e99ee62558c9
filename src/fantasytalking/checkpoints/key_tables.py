"""Reversible tables of key names, and the strict report of what does not fit.

A checkpoint layout is a `KeyTable`: a list of `Rule`s that say how a name in a file becomes a name in the model.
Rules are templates, not string replacements, so each one is read in both directions and
`table.backward(table.forward(key)) == key` holds for every key.

Template fields:
    `{n}`     a number (the index of a block or layer); the same field may occur once
    `{p}`     a leaf such as `weight`, `bias` or `gamma`
    `{tail}`  any remaining name, dots included
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from fantasytalking.errors import CheckpointError

__all__ = ["KeyReport", "KeyTable", "Piece", "Rule", "compare_keys"]

_FIELDS = {"n": r"\d+", "p": r"[a-z]+", "tail": r".+"}
_SHOWN = 5


@cache
def _compile(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    pattern = "".join(re.escape(part) if i % 2 == 0 else f"(?P<{part}>{_FIELDS[part]})" for i, part in enumerate(parts))
    return re.compile(pattern)


@dataclass(frozen=True)
class Piece:
    """Where the value of one tensor of the model comes from.

    Attributes:
        source: Name of the tensor in the file.
        part: Which of `parts` equal slices along dimension 0 is meant.
        parts: 1 for the whole tensor, 3 for one of a fused query, key and value.
        leading_ones: Number of leading dimensions of size 1 that the file has and the model has not.
    """

    source: str
    part: int = 0
    parts: int = 1
    leading_ones: int = 0

    def shape(self, source_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the model's tensor, given the shape of the file's."""
        shape = tuple(source_shape)
        if self.leading_ones and all(size == 1 for size in shape[: self.leading_ones]):
            shape = shape[self.leading_ones :]
        if self.parts > 1 and shape and shape[0] % self.parts == 0:
            shape = (shape[0] // self.parts, *shape[1:])
        return shape


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
        source: Template of the name in the file.
        target: Template of the name in the model; several templates when the file stores them stacked along
            dimension 0.
        leading_ones: Leading dimensions of size 1 that only the file has.
    """

    source: str
    target: str | tuple[str, ...]
    leading_ones: int = 0

    @property
    def targets(self) -> tuple[str, ...]:
        """The target templates, also when there is only one."""
        return (self.target,) if isinstance(self.target, str) else self.target

    @cached_property
    def source_pattern(self) -> re.Pattern[str]:
        """The source template as a regular expression."""
        return _compile(self.source)

    @cached_property
    def target_patterns(self) -> tuple[re.Pattern[str], ...]:
        """The target templates as regular expressions."""
        return tuple(_compile(target) for target in self.targets)


@dataclass(frozen=True)
class KeyTable:
    """How the names of one checkpoint layout become the names of a model, and back.

    Attributes:
        name: Name of the layout, used in messages.
        rules: The lines; the first that matches a name decides.
        ignored: Templates of names in the file that the model does not need (for example the text half of a CLIP
            model).
    """

    name: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = field(default=())

    def forward(self, key: str) -> tuple[str, ...] | None:
        """Names in the model for a name in the file.

        Returns:
            One name, several for a stacked tensor, an empty tuple for an ignored name, or None when no rule knows
            the name.
        """
        for rule in self.rules:
            match = rule.source_pattern.fullmatch(key)
            if match:
                return tuple(target.format(**match.groupdict()) for target in rule.targets)
        return () if any(_compile(template).fullmatch(key) for template in self.ignored) else None

    def backward(self, key: str) -> Piece | None:
        """Where a tensor of the model is found in a file of this layout, or None when no rule knows its name."""
        for rule in self.rules:
            for part, pattern in enumerate(rule.target_patterns):
                match = pattern.fullmatch(key)
                if match:
                    source = rule.source.format(**match.groupdict())
                    return Piece(source, part, len(rule.targets), rule.leading_ones)
        return None

    def plan(self, source_keys: Iterable[str]) -> tuple[dict[str, Piece], list[str]]:
        """Plan the reading of a file.

        Args:
            source_keys: Names in the file.

        Returns:
            The piece for every name of the model that the file can fill, and the names of the file that no rule knows.
        """
        plan: dict[str, Piece] = {}
        unknown: list[str] = []
        for key in source_keys:
            targets = self.forward(key)
            if targets is None:
                unknown.append(key)
                continue
            for target in targets:
                piece = self.backward(target)
                assert piece is not None and piece.source == key, f"table {self.name!r} is not reversible at {key!r}"
                plan[target] = piece
        return plan, unknown


@dataclass(frozen=True)
class KeyReport:
    """What does not fit between a file and a model.

    Attributes:
        missing: Names that the model needs and the file lacks.
        unexpected: Names in the file that the model has no place for.
        misshapen: Name -> (shape in the file, shape in the model).
        known: All names of the model, from which nearest names are suggested.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    known: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({_some(self.missing)})")
        if self.unexpected:
            parts.append(
                f"{len(self.unexpected)} unexpected ({_some([self._suggest(key) for key in self.unexpected])})"
            )
        if self.misshapen:
            lines = [f"{key} is {list(got)} and must be {list(want)}" for key, (got, want) in self.misshapen.items()]
            parts.append(f"{len(self.misshapen)} misshapen ({_some(lines)})")
        return ", ".join(parts) or "all keys fit"

    def _suggest(self, key: str) -> str:
        nearest = difflib.get_close_matches(key, self.known, n=1, cutoff=0.8)
        return f"{key}, nearest known name {nearest[0]}" if nearest else key

    def raise_if_bad(self, where: str, what: str, advice: str) -> None:
        """Raise when something does not fit.

        Args:
            where: The file or folder.
            what: The model that was to be filled.
            advice: What to do about it.

        Raises:
            CheckpointError: Naming every kind of mismatch and the first names of each.
        """
        if not self.ok:
            raise CheckpointError(f"{where} does not fit {what}: {self}; {advice}.")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return "; ".join(names[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def compare_keys(
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    unknown: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> KeyReport:
    """Compare what a model needs with what a file holds.

    Args:
        expected: Name -> shape, of the model.
        found: Name (already in the model's naming) -> shape, of the file.
        unknown: Names in the file that could not be translated at all.
        optional: Names of the model that the file may lack.

    Returns:
        The report.
    """
    allowed = set(optional)
    return KeyReport(
        missing=tuple(sorted(key for key in expected if key not in found and key not in allowed)),
        unexpected=tuple(sorted([*unknown, *(key for key in found if key not in expected)])),
        misshapen={
            key: (found[key], expected[key]) for key in sorted(found) if key in expected and found[key] != expected[key]
        },
        known=tuple(expected),
    )
