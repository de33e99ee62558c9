"""The report as one HTML file that needs nothing else: no request leaves it, style, script, plots and videos are inside.

A content security policy in the page itself says so to the browser: nothing is loaded from anywhere, and no script runs but ours, whatever
a file name contains.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.report.clip_gallery import choose_clips, clips_section
from fantasytalking.evaluation.report.report_plots import plots_section
from fantasytalking.evaluation.report.report_table import comparisons_section, footnotes, table_section
from fantasytalking.evaluation.results import Column, Report
from fantasytalking.reporting.html import Html, join, stylesheet, table, text
from fantasytalking.system.records import describe

__all__ = ["MAX_BYTES", "page"]

MAX_BYTES = 25_000_000
"""Largest size of the page; videos beyond it are left out and named."""

_DIRECTIONS = {"higher": "higher", "lower": "lower", "neither": "neither (an amount)"}


def page(report: Report, media: bool = True, max_bytes: int = MAX_BYTES) -> str:
    """The whole page.

    Args:
        report: what was measured.
        media: whether to embed the shown clips.
        max_bytes: largest size, by leaving out videos.
    """
    style, script = stylesheet(), Path(__file__).with_name("report.js").read_text("utf-8")
    before = [
        _head(report, style, script),
        _header(report),
        _warnings(report),
        '<main id="main">',
        table_section(report),
        comparisons_section(report),
        plots_section(report),
    ]
    after = [
        _definitions(report),
        _made_with(report),
        _problems(report),
        "</main>",
        f"<script>{script}</script>",
        "</body></html>",
        "",
    ]
    cards = clips_section(report, 0, media=False)
    if media:
        rest = sum(len(part.encode("utf-8", "backslashreplace")) + 1 for part in (*before, cards, *after))
        cards = clips_section(report, max(0, max_bytes - rest - _markup(report)), media)
    return join([*before, cards, *after], "\n")


def _markup(report: Report) -> int:
    """Room for what comes with videos beside their bytes: elements, buttons, names of files that were left out."""
    room = 1000
    for choice in choose_clips(report):
        clip = choice.method.clips[choice.clip]
        names = (choice.clip, choice.clip, choice.clip, clip.generated, clip.reference)
        room += 1000 + sum(len(text(name).encode("utf-8", "backslashreplace")) for name in names)
    return room


def _head(report: Report, style: str, script: str) -> str:
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in (style, script)]
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>Evaluation, {text(_protocol_name(report))}, {text(report.created[:10])}</title>'
        f"<style>{style}</style></head><body>"
    )


def _protocol_name(report: Report) -> str:
    return str(report.protocol.get("name", "unnamed"))


def _header(report: Report) -> str:
    created = report.created.replace("T", " ")[:16]
    clips = len({name for method in report.methods for name in method.clips})
    count = len(report.problems)
    problems = f'<a href="#problems">{count} problem{"" if count == 1 else "s"}</a>' if count else "no problems"
    proxies = sum(column.proxy for column in report.columns)
    proxy = f" ({proxies} of them prox{'y' if proxies == 1 else 'ies'})" if proxies else ""
    links = [
        ("table", "Results", True),
        ("comparisons", "Comparisons", bool(report.comparisons)),
        ("plots", "Plots", True),
        ("clips", "Clips", True),
        ("definitions", "Definitions", True),
        ("made-with", "Protocol", True),
        ("problems", "Problems", True),
    ]
    nav = "".join(f'<a href="#{target}">{name}</a>' for target, name, shown in links if shown)
    return (
        '<a class="skip" href="#main">Skip to the results</a><header>'
        f"<h1>Evaluation of {text(_names(report))}</h1>"
        f'<p class="meta"><time datetime="{text(report.created)}">{text(created)} UTC</time> · protocol '
        f"<b>{text(_protocol_name(report))}</b></p>"
        f"<p>{_plural(len(report.methods), 'method')} on {_plural(clips, 'clip')} against the real clips in "
        f"<code>{text(report.reference)}</code>, {_plural(len(report.columns), 'metric')}{proxy}, {problems}, "
        f'{report.minutes:.1f} minutes.</p><nav aria-label="Sections">{nav}</nav></header>'
    )


def _names(report: Report) -> str:
    names = [method.name for method in report.methods if method.kind == "method"]
    shown = names or [method.name for method in report.methods] or ["nothing"]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _warnings(report: Report) -> str:
    notes = footnotes(report)
    labels: Counter[str] = Counter()
    for method in report.methods:
        for column in report.columns:
            cell = method.summary.get(column.key)
            labels[column.label] += bool(cell is not None and cell.warning)
    items = [str(text(warning)) for warning in report.warnings]
    if notes:
        cells = ", ".join(f"{label} ({count})" for label, count in labels.items() if count)
        items.append(
            f"{_plural(sum(labels.values()), 'cell')} of the table carry a warning of their own: {text(cells)}. "
            '<a href="#note-1">Notes below the table</a>.'
        )
    if not items:
        return ""
    listed = "".join(f"<li>{item}</li>" for item in items)
    return (
        '<aside class="warnings" aria-labelledby="warnings-title"><h2 id="warnings-title">⚠ Before you quote a number</h2>'
        f"<ul>{listed}</ul></aside>"
    )


def _definitions(report: Report) -> str:
    head = [Html(name) for name in ("Metric", "What is computed", "Better", "Weights (SHA-256)")]
    rows = [[_metric(c), text(c.definition), Html(_DIRECTIONS[c.better]), _weights(c.weights)] for c in report.columns]
    return (
        '<section id="definitions"><h2>Definitions</h2>'
        + table(Html("What each column is, exactly, and with which weights"), head, rows, "prose")
        + "</section>"
    )


def _metric(column: Column) -> Html:
    unit = f", {text(column.unit)}" if column.unit else ""
    stands = f" for {text(column.stands_for)}" if column.stands_for else ""
    tag = f'<span class="tag">proxy{stands}</span>' if column.proxy else ""
    return Html(f'{text(column.label)}{unit} <span class="sub">{text(column.key)}</span>{tag}')


def _weights(weights: Mapping[str, str]) -> Html:
    if not weights:
        return Html("none: arithmetic alone")
    return join(
        (
            f'<span class="hash"><b>{text(name)}</b> <code>{text(digest)}</code></span>'
            for name, digest in weights.items()
        )
    )


def _made_with(report: Report) -> str:
    helps = {one.name: one.help for one in describe(Protocol)}
    head = [Html(name) for name in ("Setting", "Value", "Meaning")]
    protocol = [[text(k), text(_shown(v)), text(helps.get(k, ""))] for k, v in report.protocol.items()]
    return join(
        [
            '<section id="made-with"><h2>Protocol, software, machine</h2>',
            table(Html("Protocol: numbers compare only where it is the same"), head, protocol, "prose"),
            '<div class="columns">',
            _pairs("Software", report.software.items()),
            _pairs("Machine", report.machine.items()),
            "</div>",
            f'<h3>Command</h3><pre tabindex="0"><code>{text(report.command)}</code></pre></section>',
        ],
        "\n",
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(title: str, items: Iterable[tuple[str, Any]]) -> Html:
    rows = [[text(name), text(_shown(value))] for name, value in items]
    return table(Html(title), [Html("Name"), Html("Value")], rows, "prose")


def _problems(report: Report) -> str:
    if not report.problems:
        return '<section id="problems"><h2>Problems</h2><p>None: every clip was measured by every metric.</p></section>'
    head = [Html(name) for name in ("Method", "Clip", "File", "Reason")]
    rows = [[text(p.method), text(p.clip), text(p.file), text(p.reason)] for p in report.problems]
    caption = Html("What could not be used; the numbers above were made without it")
    return (
        f'<section id="problems"><h2>Problems ({len(rows)})</h2>{table(caption, head, rows, "prose", False)}</section>'
    )
