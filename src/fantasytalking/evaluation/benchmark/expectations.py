"""A manifest's expectations judged by a report: each by the paired comparison of its two methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fantasytalking.evaluation.benchmark.benchmark_manifest import Expectation, Order
from fantasytalking.evaluation.report.report_table import with_unit
from fantasytalking.evaluation.results import Comparison, Report
from fantasytalking.reporting.markdown import markdown_cell
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import write_json

__all__ = ["Trend", "Verdict", "judge", "save_trends", "trend_table"]

Verdict = Literal[
    "holds", "right direction, not significant", "no difference", "undecided", "contradicted", "not measured"
]


@dataclass(frozen=True)
class Trend:
    """One expectation and its verdict.

    Attributes:
        claim: The expectation in words.
        column: Key of the column.
        label: Label and unit of the column in the report; a proxy never has the paper's name.
        expected: The expectation as a formula, such as `a > b` or `|a - b| <= 0.1`.
        verdict: `holds`: as expected, and the interval excludes the contrary. `right direction, not significant`: the mean is as
            expected, the interval contains 0 (or reaches beyond the allowed difference). `no difference`: for an order, the mean is
            not as expected, the interval contains 0. `undecided`: for a sameness, the mean differs by more than is allowed, the
            interval does not exclude less. `contradicted`: the interval excludes what is expected. `not measured`: no comparison.
        difference: First method minus the second, mean over common clips; None where it was not measured.
        low: Lower end of the interval, or None.
        high: Upper end of the interval, or None.
        clips: Number of common clips.
    """

    claim: str
    column: str
    label: str
    expected: str
    verdict: Verdict
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0


def judge(expectations: Sequence[Expectation], report: Report) -> list[Trend]:
    """Judge expectations by the comparisons of a report: one trend each, in the same order."""
    labels = {column.key: with_unit(column) for column in report.columns}
    trends = []
    for expectation in expectations:
        first, second = expectation.methods
        label = labels.get(expectation.column, expectation.column)
        found = _comparison(report, expectation.column, first, second)
        allowed = None
        if isinstance(expectation, Order):
            signs = f"{first} > {second}"
        else:
            allowed = expectation.allowed(_mean(report, expectation.column, second))
            signs = f"|{first} - {second}| <= {_plain(expectation.within)}"
        if found is None or (allowed is None and not isinstance(expectation, Order)):
            trends.append(Trend(expectation.claim, expectation.column, label, signs, "not measured"))
            continue
        verdict = _order(found) if allowed is None else _same(found, allowed)
        numbers = (found.difference, found.low, found.high, found.clips)
        trends.append(Trend(expectation.claim, expectation.column, label, signs, verdict, *numbers))
    return trends


def trend_table(trends: Sequence[Trend]) -> str:
    """Format trends as a Markdown table."""
    lines = [
        "| expectation | column | expected | difference (interval) | clips | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for trend in trends:
        numbers = "" if trend.difference is None else f"{trend.difference:+.3g}"
        if trend.low is not None and trend.high is not None:
            numbers += f" ({trend.low:+.3g} to {trend.high:+.3g})"
        cells = (trend.claim, trend.label, trend.expected, numbers, trend.clips or "", trend.verdict)
        lines.append("| " + " | ".join(markdown_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def save_trends(trends: Sequence[Trend], folder: Path) -> None:
    """Write `trends.json` and `trends.md` into a folder; existing files are replaced in one go, or removed if there is no trend."""
    if not trends:
        for name in ("trends.json", "trends.md"):
            (folder / name).unlink(missing_ok=True)
        return
    write_json(folder / "trends.json", [asdict(trend) for trend in trends], indent=1, ascii_only=False)
    with atomic_path(folder / "trends.md", overwrite=True) as temporary:
        temporary.write_bytes((trend_table(trends) + "\n").encode("utf-8", "backslashreplace"))


def _mean(report: Report, column: str, method: str) -> float | None:
    cells = [row.summary[column].value for row in report.methods if row.name == method and column in row.summary]
    return cells[0] if cells else None


def _plain(within: float | str) -> str:
    return within if isinstance(within, str) else f"{within:g}"


def _comparison(report: Report, column: str, first: str, second: str) -> Comparison | None:
    """The comparison of two methods, turned so that it is `first` minus `second`."""
    for found in report.comparisons:
        if found.column != column:
            continue
        if (found.first, found.second) == (first, second):
            return found
        if (found.first, found.second) == (second, first):
            low, high = (None if end is None else -end for end in (found.high, found.low))
            return Comparison(column, first, second, -found.difference, low, high, found.p, found.clips)
    return None


def _order(found: Comparison) -> Verdict:
    low, high = found.low, found.high
    if found.difference > 0:
        return "holds" if low is not None and low > 0 else "right direction, not significant"
    return "contradicted" if high is not None and high < 0 else "no difference"


def _same(found: Comparison, within: float) -> Verdict:
    low, high = found.low, found.high
    if abs(found.difference) <= within:
        inside = low is not None and high is not None and low >= -within and high <= within
        return "holds" if inside else "right direction, not significant"
    outside = low is not None and high is not None and (low > within or high < -within)
    return "contradicted" if outside else "undecided"
