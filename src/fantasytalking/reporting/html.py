"""Small pieces of HTML for the report: escaping, numbers, tables, arrows.

Names of files and methods come from outside and may hold anything, markup included. Everything that enters the page goes through
`text`; what is already HTML is a `Html`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NewType

__all__ = ["ARROWS", "DASH", "Html", "finite", "join", "missing", "number", "printable", "stylesheet", "table", "text"]

Html = NewType("Html", str)

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
DASH = "–"


def printable(value: object) -> str:
    """A name on one line: control characters, direction marks and broken encodings become visible escapes.

    A file name may hold a line break, an escape sequence of the terminal, or bytes that are no UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))


def text(value: object) -> Html:
    """Any text from outside, escaped for elements and quoted attributes."""
    return Html(html.escape(printable(value), quote=True))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Pieces of HTML, one after the other."""
    return Html(between.join(parts))


def finite(value: Any) -> float | None:
    """The number, or None if it is none, not a number or infinite."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def number(value: float | None, decimals: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash for None."""
    known = finite(value)
    if known is None:
        return DASH
    shown = f"{known:.{max(0, decimals)}f}"
    if not shown.strip("-0."):
        shown = shown.lstrip("-")
    return shown.replace("-", "−")


def missing(why: str = "not measured") -> Html:
    """A dash that says why there is no number."""
    return Html(f'<span class="dash" title="{text(why)}" aria-label="{text(why)}">{DASH}</span>')


def table(
    caption: Html, head: Sequence[Html], rows: Iterable[Sequence[Html]], css: str = "", row_header: bool = True
) -> Html:
    """A table with a caption, whose head and (if `row_header`) first cells are headers with their scope.

    Args:
        caption: shown above it.
        head: contents of the head.
        rows: contents of the cells.
        css: class names.
        row_header: whether the first cell of a row names the row.
    """
    lines = [
        f'<div class="scroll" tabindex="0" role="group" aria-label="Table"><table class="{css}"><caption>{caption}</caption>'
    ]
    lines.append("<thead><tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head) + "</tr></thead><tbody>")
    for row in rows:
        cells = [f"<td>{cell}</td>" for cell in row]
        if row_header and row:
            cells[0] = f'<th scope="row">{row[0]}</th>'
        lines.append("<tr>" + "".join(cells) + "</tr>")
    lines.append("</tbody></table></div>")
    return join(lines, "\n")


def stylesheet() -> str:
    """The style that every report begins with, as CSS."""
    return Path(__file__).with_name("report.css").read_text("utf-8")
