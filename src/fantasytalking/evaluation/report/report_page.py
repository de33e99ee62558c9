"""The report as one HTML file that needs nothing else: no request leaves it; style, script, plots and videos are inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.report.clip_gallery import choose_clips, clips_section
from fantasytalking.evaluation.report.report_plots import MOST_DOTS, distributions, mean_plots
from fantasytalking.evaluation.report.report_table import comparison_values, result_values
from fantasytalking.evaluation.results import Report
from fantasytalking.reporting.html import render_page
from fantasytalking.system.printable_text import printable
from fantasytalking.system.records import describe

__all__ = ["MAX_BYTES", "page"]

MAX_BYTES = 25_000_000
"""Largest size of the page in bytes; videos beyond it are left out and named."""

_FOLDER = Path(__file__).parent


def page(
    report: Report, media: bool = True, max_bytes: int = MAX_BYTES, advance: Callable[[], None] = lambda: None
) -> str:
    """Make the whole page.

    Args:
        report: What was measured.
        media: Whether to embed the worst and best clips.
        max_bytes: Largest size of the page, kept by leaving out videos.
        advance: Called after each video.
    """
    values = _values(report)
    content = _filled(report, values, clips_section(report, 0, media=False))
    if not media:
        return content
    budget = max_bytes - len(content.encode("utf-8", "backslashreplace")) - _markup_bytes(report)
    return _filled(report, values, clips_section(report, max(0, budget), advance=advance))


def _filled(report: Report, values: dict[str, Any], clips: Markup) -> str:
    links = [
        ("table", "Results"),
        *([("comparisons", "Comparisons")] if report.comparisons else []),
        ("plots", "Plots"),
        ("clips", "Clips"),
        ("definitions", "Definitions"),
        ("made-with", "Protocol"),
        ("problems", "Problems"),
    ]
    return render_page(
        _FOLDER / "report.html",
        links,
        script=(_FOLDER / "report.js").read_text("utf-8"),
        sources="img-src data:; media-src data:",
        report=report,
        clips=clips,
        **values,
    )


def _values(report: Report) -> dict[str, Any]:
    """Values for `report.html` besides the report itself and its clips."""
    warned: Counter[str] = Counter()
    for method in report.methods:
        for column in report.columns:
            cell = method.summary.get(column.key)
            warned[column.label] += bool(cell is not None and cell.warning)
    helps = {one.name: one.help for one in describe(Protocol)}
    wide, plots = mean_plots(report), distributions(report)
    return {
        "protocol_name": str(report.protocol.get("name", "unnamed")),
        "names": _names(report),
        "created": report.created.replace("T", " ")[:16],
        "clip_count": len({name for method in report.methods for name in method.clips}),
        "warned_count": sum(warned.values()),
        "warned_cells": ", ".join(f"{label} ({count})" for label, count in warned.items() if count),
        "comparisons": comparison_values(report),
        "plots": plots,
        "wide_plots": wide,
        "most_dots": MOST_DOTS,
        "protocol": [(name, _shown(value), helps.get(name, "")) for name, value in report.protocol.items()],
        "software": [(name, _shown(value)) for name, value in report.software.items()],
        "machine": [(name, _shown(value)) for name, value in report.machine.items()],
        "problems": [(p.method, p.clip, p.file, p.reason) for p in report.problems],
        **result_values(report),
    }


def _markup_bytes(report: Report) -> int:
    """Room for what comes with videos besides their bytes: elements, buttons, names of files that were left out."""
    room = 1000
    for choice in choose_clips(report):
        clip = choice.method.clips[choice.clip]
        names = (choice.clip, choice.clip, choice.clip, clip.generated, clip.reference)
        room += 1000 + sum(len(escape(printable(name)).encode("utf-8", "backslashreplace")) for name in names)
    return room


def _names(report: Report) -> str:
    names = [method.name for method in report.methods if method.kind == "method"]
    shown = names or [method.name for method in report.methods] or ["nothing"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
