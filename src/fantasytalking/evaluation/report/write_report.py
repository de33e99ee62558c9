"""Writing of a report: `report.json`, `report.csv`, `clips.csv` and `report.html`, all from the same `Report`.

`report.html` shows pictures of the clips that were evaluated; whoever passes it on passes those on too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fantasytalking.evaluation.report.clip_gallery import choose_clips
from fantasytalking.evaluation.report.report_page import page
from fantasytalking.evaluation.report.report_table import table_text, with_unit
from fantasytalking.evaluation.results import Report, save_report
from fantasytalking.reporting.html import finite
from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = ["CLIPS_CSV", "PAGE", "TABLE_CSV", "embedded_count", "table_text", "write_report"]

PAGE = "report.html"
TABLE_CSV = "report.csv"
CLIPS_CSV = "clips.csv"

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_TABLE_FIELDS = (
    *("method", "kind", "column", "label", "stands_for", "proxy", "better", "unit"),
    *("value", "low", "high", "clips", "samples", "warning", "definition"),
)


def embedded_count(report: Report) -> int:
    """Number of videos that the page embeds, each of which takes a moment to encode."""
    return max(1, 2 * len(choose_clips(report)))


def write_report(report: Report, folder: Path, media: bool = True, advance: Callable[[], None] = lambda: None) -> Path:
    """Write every file of a report, each complete or not at all; files of an earlier report are replaced.

    Args:
        report: What was measured.
        folder: Folder to write to; created if it does not exist.
        media: Whether the page embeds the worst and best clips (decoded and recompressed, some seconds of work each). A clip that
            cannot be read is named in the page in place of its video.
        advance: Called after each of the `embedded_count` videos.

    Returns:
        `report.html`.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    with full_disk_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_report(_encodable(report), folder)
    _write(folder / TABLE_CSV, _csv(_TABLE_FIELDS, _table_rows(report)))
    about = ("method", "kind", "clip", "generated", "reference", "frames")
    # A Frechet distance belongs to a set; and a proxy has its own name here as everywhere.
    single = [column for column in report.columns if column.per_clip]
    _write(
        folder / CLIPS_CSV, _csv((*about, *(with_unit(c) for c in single)), _clip_rows(report, [c.key for c in single]))
    )
    _write(folder / PAGE, page(report, media, advance=advance))
    return folder / PAGE


def _encodable(report: Report) -> Report:
    """The report with names that JSON in UTF-8 can hold; on Linux a file name may be any bytes."""
    raw = report.to_dict()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        if isinstance(value, dict):
            return {clean(k): clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, list) else value

    cleaned = clean(raw)
    return report if cleaned == raw else Report.from_dict(cleaned)


def _write(path: Path, content: str) -> None:
    with atomic_path(path, overwrite=True) as temporary, full_disk_error(path):
        temporary.write_bytes(content.encode("utf-8", "backslashreplace"))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_field(value) for value in row] for row in rows)
    return buffer.getvalue()


def _field(value: Any) -> Any:
    """A field as it is written: every digit of a number, nothing for what is not measured, and text that no spreadsheet executes."""
    if isinstance(value, str):
        # A spreadsheet takes such a text for a formula; the apostrophe is its mark of a text.
        return f"'{value}" if value.startswith(_FORMULAS) else value
    return "" if value is None else repr(value) if isinstance(value, float) else value


def _table_rows(report: Report) -> Iterable[Sequence[Any]]:
    for method in report.methods:
        for column in report.columns:
            cell = method.summary.get(column.key)
            numbers = (
                (None, None, None, 0, 0, "")
                if cell is None
                else (
                    *(finite(v) for v in (cell.value, cell.low, cell.high)),
                    cell.clips,
                    cell.samples,
                    cell.warning,
                )
            )
            proxy = "yes" if column.proxy else "no"
            known = (
                method.name,
                method.kind,
                column.key,
                column.label,
                column.stands_for,
                proxy,
                column.better,
                column.unit,
            )
            yield (*known, *numbers, column.definition)


def _clip_rows(report: Report, keys: Sequence[str]) -> Iterable[Sequence[Any]]:
    for method in report.methods:
        for name, clip in method.clips.items():
            values = (finite(clip.values.get(key)) for key in keys)
            yield (method.name, method.kind, name, clip.generated, clip.reference, clip.frames, *values)
