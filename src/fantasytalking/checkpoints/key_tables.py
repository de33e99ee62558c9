"""Reversible tables of key names, and the report of the keys that do not fit a model.

A checkpoint layout is a `KeyTable`: a list of `Rule`s that say how a name in a file becomes a name in the model.
Rules are templates, not string replacements, so each one is read in both directions and
`table.backward(table.forward(key)) == key` holds for every key.

Template fields:
    `{n}`     a number (the index of a block or layer); the same field may occur once
    `{p}`     a leaf such as `weight`, `bias` or `gamma`
    `{tail}`  any remaining name, dots included
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from fantasytalking.errors import CheckpointError
from fantasytalking.system.records import closest_name

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
    """The stored tensor, or the slice of one, that fills one tensor of the model.

    Attributes:
        source: Name of the stored tensor in the file.
        part: Index of the slice along dimension 0, from 0 to `parts` - 1.
        parts: Number of equal slices in the stored tensor: 1 for a whole tensor, 3 for fused query, key and value.
        leading_ones: Number of leading dimensions of size 1 that only the stored tensor has.
    """

    source: str
    part: int = 0
    parts: int = 1
    leading_ones: int = 0

    def shape(self, source_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the model's tensor, given the shape of the stored one."""
        shape = tuple(source_shape)
        if self.leading_ones and all(size == 1 for size in shape[: self.leading_ones]):
            shape = shape[self.leading_ones :]
        if self.parts > 1 and shape and shape[0] % self.parts == 0:
            shape = (shape[0] // self.parts, *shape[1:])
        return shape


@dataclass(frozen=True)
class Rule:
    """One line of a key table.

    Attributes:
        source: Template of the name in the file.
        target: Template of the name in the model; several templates where the file stacks several tensors along
            dimension 0.
        leading_ones: Number of leading dimensions of size 1 that only the stored tensor has.
    """

    source: str
    target: str | tuple[str, ...]
    leading_ones: int = 0

    @property
    def targets(self) -> tuple[str, ...]:
        """The target templates as a tuple, even where there is only one."""
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
    """A reversible mapping between the names of one checkpoint layout and the names of a model.

    Attributes:
        name: Name of the layout, used in messages.
        rules: The lines of the table; the first one that matches a name applies.
        ignored: Templates of names in the file that the model does not need, for example the text half of a CLIP
            model.
    """

    name: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = field(default=())

    def forward(self, key: str) -> tuple[str, ...] | None:
        """Translate a name in the file to names in the model.

        Returns:
            One name, several for a stacked tensor, an empty tuple for an ignored name, or None where no rule
            matches.
        """
        for rule in self.rules:
            match = rule.source_pattern.fullmatch(key)
            if match:
                return tuple(target.format(**match.groupdict()) for target in rule.targets)
        return () if any(_compile(template).fullmatch(key) for template in self.ignored) else None

    def backward(self, key: str) -> Piece | None:
        """Find the piece of a file in this layout that fills the model's tensor `key`; None where no rule matches."""
        for rule in self.rules:
            for part, pattern in enumerate(rule.target_patterns):
                match = pattern.fullmatch(key)
                if match:
                    source = rule.source.format(**match.groupdict())
                    return Piece(source, part, len(rule.targets), rule.leading_ones)
        return None

    def plan(self, source_keys: Iterable[str]) -> tuple[dict[str, Piece], list[str]]:
        """Match the names in a file with the names in the model.

        Args:
            source_keys: Names in the file.

        Returns:
            The piece for every name in the model that the file can fill, and the names in the file that no rule
            matches.
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
    """The keys of a file that do not fit a model.

    Attributes:
        missing: Names that the model needs and the file lacks.
        unexpected: Names in the file that the model does not have.
        misshapen: Tensors of another shape than the model's: name -> (shape in the file, shape in the model).
        known: All names in the model, from which nearest names are suggested.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    known: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all keys fit."""
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
        nearest = closest_name(key, self.known, likeness=0.8)
        return f"{key}, nearest known name {nearest}" if nearest else key

    def raise_if_bad(self, where: str, what: str, advice: str) -> None:
        """Raise an error if any key does not fit.

        Args:
            where: The file or folder, for the message.
            what: The model that was to be filled, for the message.
            advice: What to do about it, the end of the sentence.

        Raises:
            CheckpointError: Some keys do not fit; the message names every kind of mismatch and the first keys of
                each.
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
    """Compare the tensors that a model needs with those that a file holds.

    Args:
        expected: Shapes by name of the model's tensors.
        found: Shapes of the file's tensors, by their name in the model.
        unknown: Names in the file that no rule could translate.
        optional: Names in the model that the file may lack.

    Returns:
        The report; its `ok` is True where everything fits.
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
