"""The report's table: methods against columns, its footnotes, the paper's rows, the paired comparisons; as HTML and as text."""

from __future__ import annotations

from collections.abc import Iterator

from fantasytalking.evaluation.paper_numbers import NOT_COMPARABLE, ODDITY, PAPER, PAPER_COLUMNS, SETS, SOURCE
from fantasytalking.evaluation.results import Column, Comparison, Method, Report, Summary
from fantasytalking.reporting.html import (
    ARROWS,
    DASH,
    Html,
    finite,
    join,
    missing,
    number,
    printable,
    table,
    text,
)

__all__ = ["best_methods", "comparisons_section", "confidence", "footnotes", "interval", "table_section", "table_text"]

_DIRECTIONS = {
    "higher": "higher is better",
    "lower": "lower is better",
    "neither": "an amount, neither direction is better",
}


def cell_number(column: Column, cell: Summary | None) -> str:
    """What a cell shows as its value."""
    return number(None if cell is None else cell.value, column.decimals)


def confidence(report: Report) -> str:
    """Coverage of the intervals, such as `95 %`."""
    return f"{100 * (finite(report.protocol.get('confidence')) or 0.95):g} %"


def best_methods(report: Report, column: Column) -> frozenset[str]:
    """Names of the methods and baselines with the best value of a column, to the decimals that are shown.

    Ground truth does not compete, an amount of motion has no best, and one competitor alone is not called best.
    """
    values = {}
    for method in report.methods:
        cell = method.summary.get(column.key)
        value = finite(cell.value) if cell is not None else None
        if method.kind != "ground truth" and value is not None:
            values[method.name] = round(value, max(0, column.decimals))
    # Reports of different protocols that `compare` put side by side have no best.
    if column.better == "neither" or len(values) < 2 or report.protocol.get("mixed"):
        return frozenset()
    best = max(values.values()) if column.better == "higher" else min(values.values())
    return frozenset(name for name, value in values.items() if value == best)


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


def table_section(report: Report) -> Html:
    """The table, its footnotes, and the paper's rows."""
    notes = footnotes(report)
    proxies = [c.label for c in report.columns if c.proxy]
    legend = [
        f"Mean over clips or Fréchet distance, below it the {confidence(report)} interval (bootstrap over clips).",
        "↑ higher is better, ↓ lower is better; without an arrow it is an amount.",
        "<strong>Bold</strong>: best of methods and still image; real pictures do not compete.",
    ]
    if proxies:
        legend.append(
            f'<span class="tag">proxy</span> another network or formula stands in for the paper\'s: {len(proxies)} of '
            f"{len(report.columns)} metrics. Do not quote a proxy under the paper's name."
        )
    # Metrics down: there are more of them than methods, and none may hide behind a scroll bar.
    head = [Html("Metric"), *(_method_name(method) for method in report.methods)]
    rows = [
        [_metric_name(column), *(_cell(report, method, column, notes) for method in report.methods)]
        for column in report.columns
    ]
    lines = ['<section id="table"><h2>Results</h2>', f'<p class="legend">{" ".join(legend)}</p>']
    lines.append(table(Html("Metrics (rows) against methods (columns)"), head, rows, "results"))
    if notes:
        lines.append('<ol class="notes" aria-label="Notes to cells">')
        for sentence, (index, cells) in notes.items():
            lines.append(f'<li id="note-{index}"><b>{text(cells)}:</b> {text(sentence)}</li>')
        lines.append("</ol>")
    lines += [_paper_rows(report), "</section>"]
    return join(lines, "\n")


def _some(names: list[str], shown: int = 4) -> str:
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _metric_name(column: Column) -> Html:
    arrow = ARROWS[column.better]
    parts = [f'<span title="{text(column.definition)}">{text(column.label)}</span>']
    if arrow:
        parts.append(f' <span class="arrow" role="img" aria-label="{_DIRECTIONS[column.better]}">{arrow}</span>')
    if column.unit:
        parts.append(f'<span class="unit">{text(column.unit)}</span>')
    if column.proxy:
        stands = f" for {text(column.stands_for)}" if column.stands_for else ""
        parts.append(f'<span class="tag">proxy{stands}</span>')
    return join(parts)


def _method_name(method: Method) -> Html:
    kind = "" if method.kind in ("method", method.name) else f"{method.kind}, "
    count = f"{len(method.clips)} clip{'' if len(method.clips) == 1 else 's'}"
    note = f'<span class="sub">{text(method.note)}</span>' if method.note else ""
    return Html(f'{text(method.name)}<span class="sub">{kind}{count}</span>{note}')


def _cell(report: Report, method: Method, column: Column, notes: dict[str, tuple[int, str]]) -> Html:
    cell = method.summary.get(column.key)
    mark = ""
    if cell is not None and cell.warning:
        index = notes[cell.warning][0]
        mark = f'<sup><a href="#note-{index}" aria-label="note {index}">{index}</a></sup>'
    if cell is None or finite(cell.value) is None:
        return Html(missing() + mark)
    value = cell_number(column, cell)
    best = method.name in best_methods(report, column)
    shown = f'<strong title="best of methods and still image">{value}</strong>' if best else value
    title = f"{cell.clips} clips, {cell.samples} samples"
    sub = f'<span class="interval">{interval(column, cell)}</span>' if interval(column, cell) else ""
    if 0 < cell.clips < len(method.clips):
        sub += f'<span class="interval">{cell.clips} clips</span>'
    return Html(f'<span title="{title}">{shown}</span>{mark}{sub}')


def _paper_rows(report: Report) -> Html:
    """The paper's tables, collapsed; columns of the paper only, so that no proxy stands above a number of the paper."""
    head = [Html(name) for name in ("Table", "Set", "Method", "Settings")]
    for column in PAPER_COLUMNS:
        arrow = ARROWS[column.better]
        unit = f'<span class="unit">{column.unit}</span>' if column.unit else ""
        head.append(Html(f"{column.name}{f' <span class=arrow>{arrow}</span>' if arrow else ''}{unit}"))
    rows = []
    for row in PAPER:
        numbers = [Html(row.printed.get(c.name, "")) or missing("not in the paper") for c in PAPER_COLUMNS]
        rows.append([Html(str(row.table)), text(row.set), text(row.method), text(row.settings), *numbers])
    sets = "; ".join(f"{name}: {what}" for name, what in SETS.items())
    names = [column.name for column in PAPER_COLUMNS]
    here = [c.stands_for for c in report.columns if not c.proxy and c.stands_for in names]
    same = f"Without a proxy, this report measures {', '.join(here) or 'none'} of these columns. "
    return Html(
        f'<details class="paper"><summary>The paper\'s rows (<em>{NOT_COMPARABLE}</em>)</summary>'
        + table(
            Html(f"{SOURCE}, tables 1, 2 and 4: {NOT_COMPARABLE}. Sets: {text(sets)}."),
            head,
            rows,
            "results paper",
            False,
        )
        + f'<p class="legend">{text(same)}{text(ODDITY)}</p></details>'
    )


def comparisons_section(report: Report) -> Html:
    """Every pair of methods on its common clips, in words."""
    if not report.comparisons:
        return Html("")
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in report.comparisons:
        pairs.setdefault((comparison.first, comparison.second), []).append(comparison)
    lines = [
        '<section id="comparisons"><h2>Paired comparisons</h2>',
        '<p class="legend">Both methods on the same clips; the difference is the first minus the second. p is of a two-sided '
        "sign-flip test over clips and is not corrected for the number of comparisons; Fréchet distances have none.</p>",
    ]
    columns = {c.key: c for c in report.columns}
    head = [Html(name) for name in ("Metric", "Difference", f"{confidence(report)} interval", "p", "Clips", "In words")]
    for place, ((first, second), comparisons) in enumerate(pairs.items()):
        rows = [list(_comparison(report, columns[c.column], c)) for c in comparisons if c.column in columns]
        opened = " open" if place == 0 else ""
        clear = sum("excludes 0" in row[-1] for row in rows)
        lines.append(
            f"<details{opened}><summary><b>{text(first)}</b> minus <b>{text(second)}</b>: {clear} of {len(rows)} differences "
            "clear</summary>"
        )
        lines.append(table(Html(f"{text(first)} minus {text(second)}"), head, rows, "comparisons") + "</details>")
    return join([*lines, "</section>"], "\n")


def _comparison(report: Report, column: Column, comparison: Comparison) -> Iterator[Html]:
    difference, low, high = (finite(v) for v in (comparison.difference, comparison.low, comparison.high))
    yield Html(f"{text(column.label)} {ARROWS[column.better]}".rstrip())
    yield Html(_signed(difference, column.decimals)) if difference is not None else missing()
    known = low is not None and high is not None
    yield (
        Html(f"[{_signed(low, column.decimals)}, {_signed(high, column.decimals)}]")
        if known
        else missing("no interval")
    )
    p = finite(comparison.p)
    yield missing("no test for this metric") if p is None else Html("&lt; 0.001" if p < 0.001 else f"{p:.3f}")
    yield Html(str(comparison.clips))
    yield text(_words(report, column, difference, low, high, p))


def _signed(value: float | None, decimals: int) -> str:
    shown = number(value, decimals)
    return f"+{shown}" if value is not None and value > 0 and shown.strip("0.") else shown


def _words(
    report: Report, column: Column, difference: float | None, low: float | None, high: float | None, p: float | None
) -> str:
    """Such as `higher (better), 95 % interval excludes 0`."""
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
    """The table for a terminal or Markdown: metrics down, methods across, so that many metrics fit into a narrow window.

    Proxies are marked `(proxy for FID)`, the best of methods and baselines with `**`, warnings with `[1]` and listed below.
    """
    notes = footnotes(report)
    head = ["metric", *(_plain(m.name) for m in report.methods)]
    rows = []
    for column in report.columns:
        proxy = (
            f" (proxy for {column.stands_for})"
            if column.proxy and column.stands_for
            else " (proxy)"
            if column.proxy
            else ""
        )
        unit = f", {column.unit}" if column.unit else ""
        row = [_plain(f"{column.label}{unit} {ARROWS[column.better]}".rstrip() + proxy)]
        for method in report.methods:
            row.append(_text_cell(method, column, method.name in best_methods(report, column), notes))
        rows.append(row)
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join(f" {'-' * w} " for w in widths) + "|"]
    lines += [_line(row, widths) for row in rows]
    legend = f"In parentheses: {confidence(report)} intervals, from five clips on. **Best** of methods and still image."
    lines += ["", f"{legend} ↑ higher, ↓ lower is better."]
    lines += [f"[{i}] {printable(cells)}: {printable(sentence)}" for sentence, (i, cells) in notes.items()]
    lines += [f"Warning: {printable(warning)}" for warning in report.warnings]
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


def _plain(value: str) -> str:
    return printable(value).replace("|", "\\|")


def _line(cells: list[str], widths: list[int]) -> str:
    return "|" + "|".join(f" {cell:<{width}} " for cell, width in zip(cells, widths, strict=True)) + "|"
