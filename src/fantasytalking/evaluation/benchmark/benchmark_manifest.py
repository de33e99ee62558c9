"""Manifests: which cases a benchmark has, which methods it compares, and what is expected of them.

A manifest holds names, numbers and hashes, never footage. `docs/benchmark.md` shows the format, `reading.py` reads it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fantasytalking.errors import InputError
from fantasytalking.system.files import atomic_path

__all__ = [
    "SCHEMA",
    "Case",
    "Expectation",
    "Manifest",
    "MethodSpec",
    "Order",
    "Picture",
    "Same",
    "Window",
    "save_manifest",
]

SCHEMA = 1


@dataclass(frozen=True)
class Picture:
    """A file that shows a face; `file` is relative to the data folder, `sha256` of the whole file."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Window:
    """A stretch of a file, in seconds; `file` and `sha256` as in `Picture`."""

    file: str
    sha256: str
    start: float
    seconds: float


@dataclass(frozen=True)
class Case:
    """One thing to generate and what it is measured against.

    Attributes:
        name: unique in the manifest, also the name of its files.
        identity: who is seen and heard; another identity's speech is never this one's.
        reference: the real footage.
        portrait: who is animated; None: the first frame of the reference.
        audio: what is said; None: the sound of the reference.
        prompt: in words, or "".
        settings: fields of `GenerationSettings`.
    """

    name: str
    identity: str
    reference: Window
    portrait: Picture | None
    audio: Window | None
    prompt: str
    settings: Mapping[str, Any]

    @property
    def speech(self) -> Window:
        """Where its true sound is."""
        return self.audio or self.reference

    @property
    def inputs(self) -> dict[str, str]:
        """Every file of it: name -> SHA-256."""
        parts = (self.reference, self.portrait, self.audio)
        return {part.file: part.sha256 for part in parts if part is not None}


@dataclass(frozen=True)
class MethodSpec:
    """One row of the table to be.

    Attributes:
        name: unique in the manifest, also the name of its folder.
        model: `embedded`, a model folder, a repository on the hub, or `$NAME`, given on the command line.
        settings: fields of `GenerationSettings`; they win over those of a case.
        speech: `own`, or `other`: the lips are driven by another identity's speech and the file carries the case's own sound, so that
            sync says what is left when the lips do not follow.
        note: for the report.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    speech: Literal["own", "other"]
    note: str


@dataclass(frozen=True)
class Order:
    """Method `higher` is expected to have the larger number in `column` than method `lower`."""

    claim: str
    column: str
    higher: str
    lower: str

    @property
    def methods(self) -> tuple[str, str]:
        """The two that it is about."""
        return self.higher, self.lower


@dataclass(frozen=True)
class Same:
    """The methods `same` (two names) are expected to differ by at most `within` in `column`.

    `within` is a number in the column's unit, or a text such as `11 %`, a share of the second one's mean. A share means the same whether
    the column is the paper's metric or a proxy with a scale of its own.
    """

    claim: str
    column: str
    same: tuple[str, str]
    within: float | str

    @property
    def methods(self) -> tuple[str, str]:
        """The two that it is about."""
        return self.same

    def allowed(self, mean: float | None) -> float | None:
        """The largest difference, given the mean of the second one; None where a share of nothing is asked for."""
        if not isinstance(self.within, str):
            return float(self.within)
        return None if mean is None else abs(mean) * float(self.within.rstrip(" %")) / 100


Expectation = Order | Same


@dataclass(frozen=True)
class Manifest:
    """A benchmark; see `docs/benchmark.md`.

    Attributes:
        name: of the benchmark.
        description: what it measures and where its footage comes from.
        terms: under which the footage may be used.
        cases, methods, expectations: see there.
    """

    name: str
    description: str
    terms: str
    cases: tuple[Case, ...]
    methods: tuple[MethodSpec, ...]
    expectations: tuple[Expectation, ...]

    def resolved(self, methods: Sequence[str] = (), models: Mapping[str, str] | None = None) -> Manifest:
        """The manifest of one run: the chosen methods, with every `$NAME` replaced.

        Args:
            methods: names; none means all. The order is the manifest's, and expectations of others are dropped.
            models: NAME -> what stands for `$NAME`: `embedded`, a model folder or a repository on the hub.

        Raises:
            InputError: a method or a NAME that the manifest has not, or a `$NAME` for which nothing is given.
        """
        models, present = models or {}, [method.name for method in self.methods]
        for name in methods:
            if name not in present:
                raise InputError(
                    f"The manifest '{self.name}' has no method '{name}'; its methods are {', '.join(present)}."
                )
        wanted = sorted({method.model[1:] for method in self.methods if method.model.startswith("$")})
        unknown = [name for name in models if name not in wanted]
        if unknown:
            known = f"it wants {', '.join(wanted)}" if wanted else "it wants none"
            raise InputError(f"The manifest '{self.name}' names no model {', '.join(unknown)}; {known}.")
        chosen = [method for method in self.methods if not methods or method.name in methods]
        missing = sorted({m.model[1:] for m in chosen if m.model.startswith("$")} - models.keys())
        if missing:
            given = " ".join(f"{name}=FOLDER" for name in missing)
            raise InputError(
                f"The manifest '{self.name}' compares models that it does not bring; pass --models {given}, "
                "or choose methods that need none with --methods."
            )
        named = tuple(dataclasses.replace(m, model=models[m.model[1:]]) if m.model[0] == "$" else m for m in chosen)
        kept = {method.name for method in named}
        expectations = tuple(e for e in self.expectations if kept.issuperset(e.methods))
        return dataclasses.replace(self, methods=named, expectations=expectations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `reading.read_manifest` reads them back."""
        return {"schema": SCHEMA, **json.loads(json.dumps(dataclasses.asdict(self)))}


def save_manifest(manifest: Manifest, path: Path) -> Path:
    """Write a manifest, whole or not at all; an existing file is replaced."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
