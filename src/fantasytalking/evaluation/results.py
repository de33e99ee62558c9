"""What an evaluation leaves behind, as data: columns, clips, summaries, comparisons, problems.

`report.json` is a `Report` written by `save_report`; HTML and CSV are made from it, and nothing in them was measured elsewhere.
Lengths: K points of a curve.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fantasytalking.errors import InputError
from fantasytalking.system.files import atomic_path

__all__ = [
    "REPORT",
    "SCHEMA",
    "ClipResult",
    "Column",
    "Comparison",
    "Curve",
    "Method",
    "Problem",
    "Report",
    "Summary",
    "load_report",
    "save_report",
]

SCHEMA = 1
REPORT = "report.json"
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: machine name, unique in a report, such as `fid`.
        label: name in the table, such as `FID` or, for a proxy, `FD-mobilenet`. A proxy never has the paper's name.
        stands_for: the paper's name of what this is or stands in for, or "".
        proxy: whether it stands in for a network that was not at hand.
        better: which direction is better; `neither` for amounts of motion.
        unit: or "".
        decimals: shown in the table.
        kind: `mean` over clips, or `frechet` distance between two sets.
        definition: one or two sentences that say exactly what is computed.
        weights: what it was made with: name -> SHA-256 (empty for arithmetic alone).
    """

    key: str
    label: str
    stands_for: str
    proxy: bool
    better: Better
    unit: str
    decimals: int
    kind: Literal["mean", "frechet"]
    definition: str
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """One cell of the table.

    Attributes:
        value: mean over clips or Frechet distance; None when nothing could be measured.
        low, high: ends of the interval, None with a single clip.
        clips: clips that it is made of.
        samples: images, videos or clips that it is made of.
        warning: a sentence, or "".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    samples: int = 0
    warning: str = ""


@dataclass(frozen=True)
class Curve:
    """Something over time or over offsets, for the plots: `x` [K] and `y` [K]."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class ClipResult:
    """What was measured of one clip of one method.

    Attributes:
        generated: path of the video, or "" for a baseline that exists in memory only.
        reference: path of the real clip.
        frames: frames looked at, at the protocol's rate.
        values: column key -> value; a metric that could not be measured is missing here and in `Report.problems`.
        curves: `sync` distance over offsets in frames; `mouth` and `mouth_reference` opening over seconds; `motion` speed of the person
            over seconds.
    """

    generated: str
    reference: str
    frames: int
    values: Mapping[str, float]
    curves: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: in the table.
        kind: `ground truth` (real pictures, whatever the sound), `baseline`, or `method`.
        note: how it was made, or "".
        clips: clip name -> result.
        summary: column key -> cell.
    """

    name: str
    kind: Literal["ground truth", "baseline", "method"]
    note: str
    clips: Mapping[str, ClipResult]
    summary: Mapping[str, Summary]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same clips, one column: difference `first` minus `second`.

    Attributes:
        difference, low, high: mean over clips (or of the two Frechet distances) and its interval.
        p: two-sided, of a sign-flip test over clips; None for Frechet distances.
        clips: common clips.
    """

    column: str
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    clips: int


@dataclass(frozen=True)
class Problem:
    """A file or metric that could not be used, by name; the run went on without it."""

    method: str
    clip: str
    file: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything of one evaluation; see the attributes of the parts.

    Attributes:
        created: date and time, ISO 8601, UTC.
        command: that made it.
        protocol: fields of `protocol.Protocol`.
        software: package -> version.
        machine: processor, cores, system, accelerator.
        columns: of the table, in order.
        methods: rows, ground truth first.
        comparisons: of pairs of methods.
        problems: what could not be used.
        warnings: what the reader must know before quoting a number.
        reference: folder of the real clips.
        minutes: that the run took.
    """

    created: str
    command: str
    protocol: Mapping[str, Any]
    software: Mapping[str, str]
    machine: Mapping[str, Any]
    columns: tuple[Column, ...]
    methods: tuple[Method, ...]
    comparisons: tuple[Comparison, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    reference: str
    minutes: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None."""
        return {"schema": SCHEMA, **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Report:
        """Inverse of `to_dict`.

        Raises:
            KeyError, TypeError: `raw` is no report of this schema.
        """
        methods = tuple(
            Method(
                m["name"],
                m["kind"],
                m["note"],
                {name: _clip(c) for name, c in m["clips"].items()},
                {key: Summary(**s) for key, s in m["summary"].items()},
            )
            for m in raw["methods"]
        )
        rest = {k: raw[k] for k in ("created", "command", "protocol", "software", "machine", "reference", "minutes")}
        return cls(
            columns=tuple(Column(**c) for c in raw["columns"]),
            methods=methods,
            comparisons=tuple(Comparison(**c) for c in raw["comparisons"]),
            problems=tuple(Problem(**p) for p in raw["problems"]),
            warnings=tuple(raw["warnings"]),
            **rest,
        )


def _clip(raw: Mapping[str, Any]) -> ClipResult:
    curves = {name: Curve(tuple(c["x"]), tuple(c["y"])) for name, c in raw["curves"].items()}
    return ClipResult(raw["generated"], raw["reference"], raw["frames"], dict(raw["values"]), curves)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def save_report(report: Report, folder: Path) -> Path:
    """Write `report.json` into a folder, whole or not at all."""
    path = folder / REPORT
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load_report(path: Path) -> Report:
    """Read a report, from its file or its folder.

    Raises:
        InputError: there is none, or it is damaged or of another version.
    """
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There is no report at '{path}'; give a folder that `fantasytalking evaluate` wrote.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise InputError(
                f"The report '{file}' is of version {raw['schema']} and this one reads {SCHEMA}; evaluate again."
            )
        return Report.from_dict(raw)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"'{file}' is no report ({error!r}); give a folder that `fantasytalking evaluate` wrote."
        ) from error
