"""Several reports in one table, with a warning for every difference between their protocols."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fantasytalking.errors import InputError
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.evaluation.protocol import differences
from fantasytalking.evaluation.results import (
    Column,
    Comparison,
    Method,
    Report,
)
from fantasytalking.evaluation.row_frames import encoding_warnings
from fantasytalking.evaluation.same_frames import have_same_frames, shared_clips
from fantasytalking.evaluation.statistics.intervals import paired

__all__ = ["join_reports"]


def join_reports(reports: Sequence[Report], names: Sequence[str], command: str = "") -> Report:
    """Join the rows of several reports in one table.

    If the protocols differ, or the rows are measured over different frames, no value is marked as best. The table has the columns that
    all reports have under the same label. Rows with the same name and equal numbers become one row; otherwise the report's name is
    appended. Rows of different reports are compared on the clips that both have with the same frames; Frechet distances are not
    compared, as a report contains no features.

    Args:
        reports: Reports to join, two or more.
        names: Names of the reports, for rows of one name and for the warnings.
        command: The command, for the record.

    Raises:
        InputError: There are fewer than two reports, or they have no column in common.
    """
    if len(reports) < 2:
        raise InputError(f"Joining takes two reports or more, and {len(reports)} was given.")
    columns = _common_columns(reports)
    if not columns:
        raise InputError("The reports have no column in common; evaluate them with the same --metrics and --backend.")
    warnings = [
        f"{names[0]} and {name} are not of one protocol: {difference}."
        for report, name in zip(reports[1:], names[1:], strict=True)
        for difference in differences(reports[0].to_dict(), report.to_dict())
    ]
    rows = _join_rows(reports, names, columns)
    common = _common_frames(reports, rows)
    if not common.same:
        warnings.append(_frames_warning(reports, names))
    earlier = dict.fromkeys(w for report in reports for w in report.warnings)
    encodings = [w for w in encoding_warnings([row for _, row in rows]) if w not in earlier]
    return dataclasses.replace(
        reports[0],
        protocol=_joint_protocol(reports) if warnings else dict(reports[0].protocol),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        columns=tuple(columns),
        methods=tuple(row for _, row in rows),
        comparisons=tuple(_comparisons(reports, rows, columns)),
        problems=tuple(dict.fromkeys(problem for report in reports for problem in report.problems)),
        warnings=tuple([*warnings, *encodings, *earlier]),
        minutes=sum(report.minutes for report in reports),
        common=common,
    )


def _common_frames(reports: Sequence[Report], rows: Sequence[tuple[int, Method]]) -> CommonFrames:
    """The frames of all rows, which are as they were measured: a report cannot be cut any more."""
    counted = {row.name: _counted(reports[place], row) for place, row in rows}
    methods = [row for _, row in rows]
    truths = {place for place, row in rows if row.kind == "ground truth" and not row.shows_other_sound}
    # Real clips of one name and other content have another row of ground truth.
    same = have_same_frames(methods, counted) and len(truths) <= 1
    shared = [name for name in shared_clips(methods) if all(name in clips for clips in counted.values())]
    frames = sum(next(row.clips[name].frames for row in methods if name in row.clips) for name in shared)
    cut = dict.fromkeys(name for r in reports if r.common is not None for name in r.common.cut if name in shared)
    apart = dict.fromkeys(key for r in reports if r.common is not None for key in r.common.apart)
    return CommonFrames(same, tuple(shared), frames, tuple(cut), tuple(apart))


def _counted(report: Report, row: Method) -> list[str]:
    """Clips of a row that its figures are of."""
    return [
        name for name in row.clips if report.common is None or not report.common.same or name in report.common.clips
    ]


def _frames_warning(reports: Sequence[Report], names: Sequence[str]) -> str:
    extents = []
    for report, name in zip(reports, names, strict=True):
        truth = report.methods[0]
        counted = _counted(report, truth)
        seconds = sum(truth.clips[clip].frames for clip in counted) / float(report.protocol.get("fps") or 25.0)
        extents.append(f"{name}: {len(counted)} clips, {seconds:.1f} s")
    return (
        f"The rows are measured over different frames ({'; '.join(extents)}), so nothing is called best, and means do not compare; "
        "evaluate all methods in one command, which cuts every row to the same frames."
    )


def _join_rows(reports: Sequence[Report], names: Sequence[str], columns: Sequence[Column]) -> list[tuple[int, Method]]:
    """The rows of the table, each with the index of its report."""
    rows: list[tuple[int, Method]] = []
    for place, (report, name) in enumerate(zip(reports, names, strict=True)):
        for method in report.methods:
            same = [row for _, row in rows if row.name == method.name]
            if any(_equal(row, method, columns) for row in same):
                continue
            rows.append((place, dataclasses.replace(method, name=f"{method.name} ({name})") if same else method))
    return rows


def _joint_protocol(reports: Sequence[Report]) -> dict[str, Any]:
    """Protocol of the fields on which all reports agree, marked as mixed."""
    protocol = reports[0].protocol
    shared = {k: v for k, v in protocol.items() if all(r.protocol.get(k) == v for r in reports)}
    name = " and ".join(dict.fromkeys(str(r.protocol["name"]) for r in reports))
    return {**shared, "name": name, "mixed": True}


def _comparisons(
    reports: Sequence[Report], rows: Sequence[tuple[int, Method]], columns: Sequence[Column]
) -> list[Comparison]:
    """Comparisons of the reports for the remaining rows, and new ones of rows from different reports."""
    keys = {column.key for column in columns}
    old = [
        c
        for place, report in enumerate(reports)
        for c in report.comparisons
        if c.column in keys and {c.first, c.second} <= {row.name for at, row in rows if at == place}
    ]
    new = [
        comparison
        for (one, first), (other, second) in itertools.combinations(rows, 2)
        if one != other
        for column in columns
        if (comparison := _compare(first, second, column, reports[0])) is not None
    ]
    return old + new


def _common_columns(reports: Sequence[Report]) -> list[Column]:
    found = [{(c.key, c.label) for c in report.columns} for report in reports]
    return [c for c in reports[0].columns if all((c.key, c.label) in other for other in found)]


def _equal(first: Method, second: Method, columns: Sequence[Column]) -> bool:
    keys = [column.key for column in columns]
    return all(first.summary.get(key) == second.summary.get(key) for key in keys)


def _compare(first: Method, second: Method, column: Column, report: Report) -> Comparison | None:
    if column.kind not in ("mean", "median"):
        return None
    pairs = [
        (first.clips[clip].values[column.key], second.clips[clip].values[column.key])
        for clip in first.clips
        if clip in second.clips
        and first.clips[clip].frames == second.clips[clip].frames
        and column.key in first.clips[clip].values
        and column.key in second.clips[clip].values
    ]
    if not pairs:
        return None
    gaps = [a - b for a, b in pairs]
    protocol = report.protocol
    resamples, seed = int(protocol["resamples"]), int(protocol["seed"])
    got, p = paired(column.kind, gaps, resamples, float(protocol["confidence"]), seed)
    return Comparison(column.key, first.name, second.name, got.value, got.low, got.high, p, len(gaps))
