"""Results of an evaluation as data: columns, clips, summaries, comparisons, problems.

`report.json` is a `Report` written by `save_report`; HTML and CSV are made from it alone. Letters: K points of a curve.
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
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.system.json import write_json

__all__ = [
    "REPORT",
    "SCHEMA",
    "SHUFFLED",
    "ClipResult",
    "Column",
    "Comparison",
    "Curve",
    "Kind",
    "Method",
    "Problem",
    "Report",
    "Summary",
    "load_report",
    "save_report",
]

SCHEMA = 1
SHUFFLED = "ground truth, other sound"
"""Name of the row of real frames with another clip's sound."""
REPORT = "report.json"
Better = Literal["higher", "lower", "neither"]
Kind = Literal["mean", "median", "occurring", "frechet", "closeness"]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: Name for programs, unique in a report, such as `fid`.
        label: Name in the table, such as `FID` or, for a proxy, `FD-mobilenet`. A proxy never has the paper's name.
        stands_for: Name in the paper of the metric that this column is or replaces, or "".
        proxy: Whether it replaces a metric whose network was not installed.
        better: Direction that is better; `neither` for amounts of motion.
        unit: Unit, or "".
        decimals: Number of decimals shown in the table.
        kind: `mean` or `median` over the clips that all rows share; mean over the clips of each row in which it is `occurring`, such as
            the length of blinks; `frechet` distance between two sets; or `closeness` of other columns to the ground truth's.
        definition: One or two sentences that say exactly what is computed.
        weights: Name -> SHA-256 of all weights it was computed with; empty if no network was used.
        parts: Keys of the columns that a `closeness` is made of.
    """

    key: str
    label: str
    stands_for: str
    proxy: bool
    better: Better
    unit: str
    decimals: int
    kind: Kind
    definition: str
    weights: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()

    @property
    def per_clip(self) -> bool:
        """Whether each clip has a value of its own."""
        return self.kind in ("mean", "median", "occurring")


@dataclass(frozen=True)
class Summary:
    """One cell of the table.

    Attributes:
        value: Mean or median over clips, Frechet distance, or closeness; None when nothing could be measured.
        low: Lower end of the interval; None where there are too few clips for one.
        high: Upper end of the interval; None where there are too few clips for one.
        clips: Number of clips that it is computed from.
        samples: Number of images, videos or clips that it is computed from.
        warning: Warning about the value, or "".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    samples: int = 0
    warning: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve over time or over offsets, for the plots: `x` [K] and `y` [K]."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class ClipResult:
    """Measurements of one clip of one method.

    Attributes:
        generated: Path of the video, or "" for a baseline that exists in memory only.
        reference: Path of the real clip.
        frames: Number of frames that were measured, at the protocol's rate; the same in all rows of one report.
        values: Column key -> value; a metric that could not be measured is missing here and named in `Report.problems`.
        curves: `sync`: distance over offsets in frames; `mouth` and `mouth_reference`: opening over seconds; `motion`: speed of the
            person over seconds.
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
        name: Name in the table.
        kind: `ground truth` (real frames, whatever the sound), `baseline`, or `method`.
        note: How it was made, or "".
        clips: Clip name -> result.
        summary: Column key -> cell.
        encoding: How its files are encoded, such as `h264 in mp4, CRF 18`; "" where there are none.
    """

    name: str
    kind: Literal["ground truth", "baseline", "method"]
    note: str
    clips: Mapping[str, ClipResult]
    summary: Mapping[str, Summary]
    encoding: str = ""

    @property
    def shows_other_sound(self) -> bool:
        """Whether it is the real frames with another sound, which compete with nothing and may lack clips."""
        return self.kind == "ground truth" and self.name.startswith(SHUFFLED)


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on the same clips in one column.

    Attributes:
        column: Key of the column.
        first: Name of a method.
        second: Name of another method.
        difference: `first` minus `second`, mean (or median, as the column's) over clips (or difference of the two Frechet distances).
        low: Lower end of its interval, or None.
        high: Upper end of its interval, or None.
        p: Two-sided p of a sign-flip test over clips; None for Frechet distances.
        clips: Number of common clips.
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
    """A file or metric that could not be used; the run went on without it.

    Attributes:
        method: Name of the method.
        clip: Name of the clip.
        file: Path of the file.
        reason: Reason, as a sentence.
    """

    method: str
    clip: str
    file: str
    reason: str


@dataclass(frozen=True)
class Report:
    """All results of one evaluation.

    Attributes:
        created: Date and time, ISO 8601, UTC.
        command: Command that wrote it.
        protocol: Fields of `protocol.Protocol`.
        software: Package -> version.
        machine: CPU, cores, system, accelerator.
        columns: Columns of the table, in order.
        methods: Rows of the table, ground truth first.
        comparisons: Comparisons of pairs of methods.
        problems: Files and metrics that could not be used.
        warnings: Sentences to read before quoting a number.
        reference: Folder of the real clips.
        minutes: Duration of the run.
        common: Frames that the rows are measured over; None in reports of versions that did not record it.
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
    common: CommonFrames | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None."""
        raw = {"schema": SCHEMA, **_plain(dataclasses.asdict(self))}
        if self.common is not None:
            raw["common"]["text"] = self.common.told(float(self.protocol.get("fps", 25.0)))
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Report:
        """Inverse of `to_dict`.

        Raises:
            KeyError: `raw` lacks a field, so it is not a report of this schema.
            TypeError: `raw` has an unknown field.
        """
        methods = tuple(
            Method(
                m["name"],
                m["kind"],
                m["note"],
                {name: _clip(c) for name, c in m["clips"].items()},
                {key: Summary(**s) for key, s in m["summary"].items()},
                m.get("encoding", ""),
            )
            for m in raw["methods"]
        )
        rest = {k: raw[k] for k in ("created", "command", "protocol", "software", "machine", "reference", "minutes")}
        return cls(
            columns=tuple(Column(**{**c, "parts": tuple(c.get("parts", ()))}) for c in raw["columns"]),
            methods=methods,
            comparisons=tuple(Comparison(**c) for c in raw["comparisons"]),
            problems=tuple(Problem(**p) for p in raw["problems"]),
            warnings=tuple(raw["warnings"]),
            common=CommonFrames.from_dict(raw.get("common")),
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
    """Write `report.json` to a folder, replacing an existing one atomically."""
    path = folder / REPORT
    write_json(path, report.to_dict(), indent=1, ascii_only=False)
    return path


def load_report(path: Path) -> Report:
    """Read a report, from its file or its folder.

    Raises:
        InputError: There is no report, or it is damaged or of another version.
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
