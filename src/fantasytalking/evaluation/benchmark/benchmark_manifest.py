"""Manifests: the cases of a benchmark, the methods that it compares, and what is expected of them.

A manifest contains names, numbers and hashes, never footage. `docs/benchmark.md` shows the format, `parse_manifest.py` reads it. Every
value is checked when a record is made, from a file or in code.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

import pydantic

from fantasytalking.errors import InputError
from fantasytalking.evaluation.pairing import GROUND_TRUTH
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.json import write_json
from fantasytalking.system.records import field, nearest_name, record

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
    "check_file",
    "check_model",
    "check_name",
    "save_manifest",
]

SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHARE = re.compile(r"\d+(\.\d+)? ?%")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[^$].*|\$[A-Z][A-Z0-9_]*", re.DOTALL)


def check_name(value: str) -> str:
    """Return a name that may also name files and folders, on every system.

    Raises:
        ValueError: It may not; the message begins with "must be".
    """
    if not _NAME.fullmatch(value):
        raise ValueError(f"must be letters, digits, '_' and '-' (it names files), but {value!r} was given.")
    return value


def check_file(value: str) -> str:
    """Return the path of a file within the data folder.

    Raises:
        ValueError: It is none, or JSON cannot hold it; the message begins with "must be".
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"must be a name in UTF-8, but {value!r} was given.") from error
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\\" in value or ":" in value.split("/")[0]:
        raise ValueError(f"must be a path within the data folder, with '/', but {value!r} was given.")
    return value


def _check_digest(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise ValueError(f"must be 64 lower-case hexadecimal digits, but {value!r} was given.")
    return value


def check_model(value: str) -> str:
    """Return the name of a model, of a folder, or a placeholder such as `$MODEL`.

    Raises:
        ValueError: It is neither; the message begins with "must be".
    """
    if not _MODEL.fullmatch(value):
        raise ValueError(f"must be a model's name, a folder, or $ and capitals, but {value!r} was given.")
    return value


def _check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    GenerationSettings.create(values)
    return dict(values)


def _check_case_settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if "prompt" in values:
        raise ValueError("must not hold a prompt; the case has a key of its own for it.")
    return values


def _check_pair(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"must name two methods, but {value!r} was given.")
    return tuple(value)


def _check_within(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    share = isinstance(value, str) and _SHARE.fullmatch(value) and float(value.rstrip(" %")) > 0
    if not number and not share:
        raise ValueError(f"must be a number above 0 or a share such as '5 %', but {value!r} was given.")
    return value


_Name: TypeAlias = Annotated[str, pydantic.AfterValidator(check_name)]
_File: TypeAlias = Annotated[str, pydantic.AfterValidator(check_file), field("Path within the data folder, with '/'.")]
_Digest: TypeAlias = Annotated[str, pydantic.AfterValidator(_check_digest), field("SHA-256 of the whole file.")]
_Settings: TypeAlias = Annotated[Mapping[str, Any], pydantic.AfterValidator(_check_settings)]


@record
class Picture:
    """An image file that shows a face.

    Attributes:
        file: Path relative to the data folder.
        sha256: SHA-256 of the whole file.
    """

    file: _File
    sha256: _Digest


@record
class Window:
    """A stretch of a video or sound file.

    Attributes:
        file: Path relative to the data folder.
        sha256: SHA-256 of the whole file.
        start: Second at which it starts.
        seconds: Its length.
    """

    file: _File
    sha256: _Digest
    start: Annotated[float, field("Second at which it starts.", minimum=0, maximum=1e7, unit="seconds")]
    seconds: Annotated[float, field("Its length.", minimum=0.2, maximum=86400, unit="seconds")]


@record
class Case:
    """A video to generate and the footage that it is measured against.

    Attributes:
        name: Unique in the manifest; also the name of its files.
        identity: The person seen and heard. Cases of one identity never lend each other their speech.
        reference: The real footage.
        portrait: The face to animate; None takes the first frame of the reference.
        audio: The speech; None takes the sound of the reference.
        prompt: Description in words, or "".
        settings: Fields of `GenerationSettings`.
    """

    name: _Name
    identity: str
    reference: Window
    portrait: Picture | None
    audio: Window | None
    prompt: str
    settings: Annotated[_Settings, pydantic.AfterValidator(_check_case_settings)]

    @property
    def speech(self) -> Window:
        """The case's own sound."""
        return self.audio or self.reference

    @property
    def inputs(self) -> dict[str, str]:
        """Every file of the case: name -> SHA-256."""
        parts = (self.reference, self.portrait, self.audio)
        return {part.file: part.sha256 for part in parts if part is not None}


@record
class MethodSpec:
    """A model and settings: one row of the table.

    Attributes:
        name: Unique in the manifest; also the name of its folder.
        model: `embedded`, a model folder, a repository on the hub, or `$NAME`, given on the command line.
        settings: Fields of `GenerationSettings`; they take precedence over those of a case.
        speech: `own`, or `other`: the lips are driven by another identity's speech and the file carries the case's own sound, so that
            sync shows what remains when the lips do not follow.
        note: Remark for the report.
    """

    name: _Name
    model: Annotated[str, pydantic.AfterValidator(check_model)]
    settings: _Settings
    speech: Literal["own", "other"]
    note: str


@record
class Order:
    """The expectation that method `higher` has the larger number in `column` than method `lower`."""

    claim: str
    column: str
    higher: str
    lower: str

    @property
    def methods(self) -> tuple[str, str]:
        """The two methods compared."""
        return self.higher, self.lower


@record
class Same:
    """The expectation that two methods differ by at most `within` in `column`.

    `within` is a number in the column's unit, or a text such as `11 %`, a share of the second one's mean. A share means the same whether
    the column is the paper's metric or a proxy with a scale of its own.
    """

    claim: str
    column: str
    same: Annotated[tuple[str, str], pydantic.BeforeValidator(_check_pair)]
    within: Annotated[float | str, pydantic.BeforeValidator(_check_within)]

    @property
    def methods(self) -> tuple[str, str]:
        """The two methods compared."""
        return self.same

    def allowed(self, mean: float | None) -> float | None:
        """The largest difference allowed.

        Args:
            mean: Mean of the second method, or None where it was not measured.

        Returns:
            A number in the column's unit; None for a share of a mean that was not measured.
        """
        if not isinstance(self.within, str):
            return float(self.within)
        return None if mean is None else abs(mean) * float(self.within.rstrip(" %")) / 100


Expectation: TypeAlias = Order | Same


def _expectation_kind(value: Any) -> str:
    return "Same" if isinstance(value, Same) or (isinstance(value, Mapping) and "same" in value) else "Order"


@record
class Manifest:
    """A benchmark; see `docs/benchmark.md`.

    Attributes:
        name: Name of the benchmark.
        description: What it measures, and where its footage comes from.
        terms: Terms under which the footage may be used.
        cases: At least one, with different names.
        methods: At least one, with different names.
        expectations: Statements about pairs of the methods, of which one may be `ground truth`, the real clips.
        sources: File of a case -> address that publishes it; files without one must be given.
    """

    name: _Name
    description: str
    terms: str
    cases: tuple[Case, ...]
    methods: tuple[MethodSpec, ...]
    expectations: tuple[
        Annotated[
            Annotated[Order, pydantic.Tag("Order")] | Annotated[Same, pydantic.Tag("Same")],
            pydantic.Discriminator(_expectation_kind),
        ],
        ...,
    ]
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, names in (("case", [c.name for c in self.cases]), ("method", [m.name for m in self.methods])):
            # folded, because some file systems ignore case
            folded = [name.casefold() for name in names]
            twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
            if twice:
                raise ValueError(f"It has the {what} {', '.join(twice)} more than once; names must differ.")
            if not names:
                raise ValueError(f"It has no {what}; give at least one.")
        known = [*(method.name for method in self.methods), GROUND_TRUTH]
        for name in (name for expectation in self.expectations for name in expectation.methods):
            if name not in known:
                raise ValueError(
                    f"It expects something of the method {name!r}, which it does not have; {nearest_name(name, known, 'methods')}"
                )
        for file in self.sources.keys() - {file for case in self.cases for file in case.inputs}:
            raise ValueError(f"It has a source of the file {file!r}, which no case uses; take it out.")

    def resolved(self, methods: Sequence[str] = (), models: Mapping[str, str] | None = None) -> Manifest:
        """The manifest of one run: the chosen methods, with every `$NAME` replaced.

        Args:
            methods: Names of methods; none means all. The order is the manifest's, and expectations of others are dropped.
            models: NAME -> what `$NAME` stands for: `embedded`, a model folder or a repository on the hub.

        Raises:
            InputError: The manifest has no such method or NAME, or nothing is given for a `$NAME`.
        """
        models, present = models or {}, [method.name for method in self.methods]
        for name in methods:
            if name not in present:
                raise InputError(
                    f"The manifest '{self.name}' has no method '{name}'; {nearest_name(name, present, 'methods')}"
                )
        wanted = sorted({method.model[1:] for method in self.methods if method.model.startswith("$")})
        unknown = [name for name in models if name not in wanted]
        if unknown:
            known = f"it needs {', '.join(wanted)}" if wanted else "it needs none"
            raise InputError(f"The manifest '{self.name}' has no placeholder ${', $'.join(unknown)}; {known}.")
        chosen = [method for method in self.methods if not methods or method.name in methods]
        missing = sorted({m.model[1:] for m in chosen if m.model.startswith("$")} - models.keys())
        if missing:
            given = " ".join(f"{name}=FOLDER" for name in missing)
            raise InputError(
                f"The manifest '{self.name}' compares models that do not come with it; pass --models {given}, "
                "or choose methods that need none with --methods."
            )
        named = tuple(dataclasses.replace(m, model=models[m.model[1:]]) if m.model[0] == "$" else m for m in chosen)
        kept = {GROUND_TRUTH, *(method.name for method in named)}
        expectations = tuple(e for e in self.expectations if kept.issuperset(e.methods))
        return dataclasses.replace(self, methods=named, expectations=expectations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `parse_manifest.read_manifest` reads them back."""
        return {"schema": SCHEMA, **json.loads(json.dumps(dataclasses.asdict(self)))}


def save_manifest(manifest: Manifest, path: Path) -> Path:
    """Write a manifest; an existing file is replaced in one go."""
    write_json(path, manifest.to_dict(), indent=1, ascii_only=False)
    return path
