"""The report's tables as values for the templates and as text: methods against columns, footnotes, the paper's rows, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fantasytalking.evaluation.paper_numbers import NOT_COMPARABLE, ODDITY, PAPER, PAPER_COLUMNS, SETS, SOURCE
from fantasytalking.evaluation.results import Column, Comparison, Method, Report, Summary
from fantasytalking.evaluation.same_frames import have_same_frames
from fantasytalking.reporting.html import ARROWS, DASH, finite, number
from fantasytalking.reporting.markdown import markdown, markdown_cell

__all__ = [
    "Cell",
    "best_methods",
    "comparison_values",
    "confidence",
    "footnotes",
    "interval",
    "result_values",
    "table_text",
    "with_unit",
]


@dataclass(frozen=True)
class Cell:
    """A cell of the results table as the page shows it.

    Attributes:
        value: The number; None where nothing was measured.
        best: Whether it is the best of methods and baselines.
        counts: Clips and samples that were measured, in words.
        note: Number of the footnote, or 0.
        interval: Such as `[1.0, 2.0]`, or "".
        fewer: Number of clips measured where that is not all of the method's, else 0.
    """

    value: str | None
    best: bool
    counts: str
    note: int
    interval: str
    fewer: int


def with_unit(column: Column, arrow: bool = False) -> str:
    """Label of a column with its unit, such as `SD-dis, px/frame`.

    Args:
        column: The column.
        arrow: Whether the arrow of the better direction follows.
    """
    unit = f", {column.unit}" if column.unit else ""
    return f"{column.label}{unit} {ARROWS[column.better] if arrow else ''}".rstrip()


def cell_number(column: Column, cell: Summary | None) -> str:
    """The value of a cell with the column's decimals, a dash where there is none."""
    return number(None if cell is None else cell.value, column.decimals)


def confidence(report: Report) -> str:
    """Coverage of the report's intervals, such as `95 %`."""
    return f"{100 * (finite(report.protocol.get('confidence')) or 0.95):g} %"


def best_methods(report: Report, column: Column) -> frozenset[str]:
    """Names of the methods and baselines with the best value of a column, to the decimals that are shown.

    Ground truth does not compete, an amount of motion has no best, and one competitor alone is not called best. Nothing is where the rows
    are not measured over the same frames.
    """
    values = {}
    for method in report.methods:
        cell = method.summary.get(column.key)
        value = finite(cell.value) if cell is not None else None
        if method.kind != "ground truth" and value is not None:
            values[method.name] = round(value, max(0, column.decimals))
    # Reports of different protocols that `compare` put side by side have no best, nor have rows over different frames.
    if (
        column.better == "neither"
        or len(values) < 2
        or report.protocol.get("mixed")
        or not _over_same_frames(report, column)
    ):
        return frozenset()
    best = max(values.values()) if column.better == "higher" else min(values.values())
    return frozenset(name for name, value in values.items() if value == best)


def _over_same_frames(report: Report, column: Column) -> bool:
    if report.common is None:
        return have_same_frames(report.methods, {})
    return report.common.same and column.key not in report.common.apart


def rows_told(report: Report) -> str:
    """How the rows were brought to the same frames, as a sentence; "" for reports that did not record it."""
    return "" if report.common is None else report.common.told(finite(report.protocol.get("fps")) or 25.0)


def interval(column: Column, cell: Summary) -> str:
    """`[low, high]` with the decimals of the column, or ""."""
    low, high = finite(cell.low), finite(cell.high)
    if low is None or high is None:
        return ""
    return f"[{number(low, column.decimals)}, {number(high, column.decimals)}]"


def footnotes(report: Report) -> dict[str, tuple[int, str]]:
    """Warnings of cells: sentence -> its number and the cells that carry it, numbered in reading order."""
    cells: dict[str, dict[str, list[str]]] = {}
    for method in report.methods:
        for column in report.columns:
            cell = method.summary.get(column.key)
            if cell is not None and cell.warning:
                cells.setdefault(cell.warning, {}).setdefault(column.label, []).append(method.name)
    named = {w: "; ".join(f"{label} of {_some(names)}" for label, names in found.items()) for w, found in cells.items()}
    return {warning: (number, where) for number, (warning, where) in enumerate(named.items(), 1)}


def result_values(report: Report) -> dict[str, Any]:
    """Values for `results.html`: a row of cells for each metric, the footnotes, and the paper's rows."""
    notes = footnotes(report)
    names = [column.name for column in PAPER_COLUMNS]
    here = [c.stands_for for c in report.columns if not c.proxy and c.stands_for in names]
    return {
        "confidence": confidence(report),
        "rows_told": rows_told(report),
        "proxies": sum(column.proxy for column in report.columns),
        "rows": [(column, [_cell(report, m, column, notes) for m in report.methods]) for column in report.columns],
        "notes": notes,
        "paper": {
            "columns": PAPER_COLUMNS,
            "rows": PAPER,
            "not_comparable": NOT_COMPARABLE,
            "caption": f"{SOURCE}, tables 1, 2 and 4: {NOT_COMPARABLE}. Sets: {'; '.join(f'{n}: {w}' for n, w in SETS.items())}.",
            "measured_here": f"Without a proxy, this report measures {', '.join(here) or 'none'} of these columns. ",
            "oddity": ODDITY,
        },
    }


def _cell(report: Report, method: Method, column: Column, notes: Mapping[str, tuple[int, str]]) -> Cell:
    cell = method.summary.get(column.key)
    note = notes[cell.warning][0] if cell is not None and cell.warning else 0
    if cell is None or finite(cell.value) is None:
        return Cell(None, False, "", note, "", 0)
    return Cell(
        value=cell_number(column, cell),
        best=method.name in best_methods(report, column),
        counts=f"{cell.clips} clips, {cell.samples} samples",
        note=note,
        interval=interval(column, cell),
        fewer=cell.clips if cell.clips < len(method.clips) else 0,
    )


def comparison_values(report: Report) -> list[dict[str, Any]]:
    """Values for `comparisons.html`: every pair of methods on its common clips, a row for each metric, in words too."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in report.comparisons:
        pairs.setdefault((comparison.first, comparison.second), []).append(comparison)
    columns = {c.key: c for c in report.columns}
    shown = []
    for (first, second), comparisons in pairs.items():
        rows = [_comparison(report, columns[c.column], c) for c in comparisons if c.column in columns]
        clear = sum("excludes 0" in row["words"] for row in rows)
        shown.append({"first": first, "second": second, "clear_count": clear, "rows": rows})
    return shown


def _comparison(report: Report, column: Column, comparison: Comparison) -> dict[str, Any]:
    difference, low, high = (finite(v) for v in (comparison.difference, comparison.low, comparison.high))
    p = finite(comparison.p)
    known = low is not None and high is not None
    return {
        "metric": with_unit(column, arrow=True),
        "difference": None if difference is None else _signed(difference, column.decimals),
        "interval": f"[{_signed(low, column.decimals)}, {_signed(high, column.decimals)}]" if known else None,
        "p": None if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}",
        "clips": comparison.clips,
        "words": _words(report, column, difference, low, high, p),
    }


def _some(names: list[str]) -> str:
    shown = 4
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _signed(value: float | None, decimals: int) -> str:
    shown = number(value, decimals)
    return f"+{shown}" if value is not None and value > 0 and shown.strip("0.") else shown


def _words(
    report: Report, column: Column, difference: float | None, low: float | None, high: float | None, p: float | None
) -> str:
    """Put a comparison into words, such as `higher (better), 95 % interval excludes 0`."""
    if difference is None:
        return "not measured"
    way = "higher" if difference > 0 else "lower" if difference < 0 else "equal"
    if low is None or high is None:
        return f"{way}, no interval"
    if low <= 0 <= high:
        return f"no clear difference: {confidence(report)} interval includes 0"
    if low > difference or high < difference:
        # The bootstrap of a Frechet distance is biased upwards with few samples, and may miss its own estimate.
        return f"{way}, but the interval does not hold the difference itself: too few samples"
    if p is not None and p > 1 - (finite(report.protocol.get("confidence")) or 0.95):
        return f"{way}, but not clear: p is {p:.3f}"
    judged = {"neither": ""}.get(column.better, " (better)" if way == column.better else " (worse)")
    return f"{way}{judged}, {confidence(report)} interval excludes 0"


def table_text(report: Report) -> str:
    """Make the table for a terminal or Markdown: metrics down, methods across, so that many metrics fit into a narrow window.

    Proxies are marked `(proxy for FID)`, the best of methods and baselines with `**`, warnings with `[1]` and listed below.
    """
    notes = footnotes(report)
    head = ["metric", *(markdown_cell(m.name) for m in report.methods)]
    rows = []
    for column in report.columns:
        proxy = (
            f" (proxy for {column.stands_for})"
            if column.proxy and column.stands_for
            else " (proxy)"
            if column.proxy
            else ""
        )
        row = [markdown_cell(with_unit(column, arrow=True) + proxy)]
        for method in report.methods:
            row.append(_text_cell(method, column, method.name in best_methods(report, column), notes))
        rows.append(row)
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join(f" {'-' * w} " for w in widths) + "|"]
    lines += [_line(row, widths) for row in rows]
    legend = f"In parentheses: {confidence(report)} intervals, from five clips on. **Best** of methods and still image."
    lines += ["", f"{legend} ↑ higher, ↓ lower is better."]
    if told := rows_told(report):
        lines.append(told)
    if encodings := [f"'{markdown(m.name)}' {markdown(m.encoding)}" for m in report.methods if m.encoding]:
        lines.append(f"Encoded as: {'; '.join(encodings)}.")
    lines += [f"[{i}] {markdown(cells)}: {markdown(sentence)}" for sentence, (i, cells) in notes.items()]
    lines += [f"Warning: {markdown(warning)}" for warning in report.warnings]
    if report.problems:
        lines.append(f"Problems, listed by name in the report: {len(report.problems)}.")
    return "\n".join(lines) + "\n"


def _text_cell(method: Method, column: Column, best: bool, notes: dict[str, tuple[int, str]]) -> str:
    cell = method.summary.get(column.key)
    mark = f" [{notes[cell.warning][0]}]" if cell is not None and cell.warning else ""
    if cell is None or finite(cell.value) is None:
        return DASH + mark
    value = cell_number(column, cell)
    limits = interval(column, cell).strip("[]")
    return (f"**{value}**" if best else value) + (f" ({limits})" if limits else "") + mark


def _line(cells: list[str], widths: list[int]) -> str:
    return "|" + "|".join(f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True)) + "|"
