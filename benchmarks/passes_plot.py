"""The plot of `fewer_passes.py`: what variants spare, against what they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fantasytalking.reporting.svg import Scale, element, tick_label, ticks, x_axis, y_axis
from fantasytalking.system.files import atomic_path

SIZE, LEFT, RIGHT, TOP, BOTTOM, NEXT = (560, 340), 60, 545, 95, 295, 9.0
STYLE = (
    "text { font: 11px sans-serif; fill: #57606a } .grid { stroke: #d0d7de } .full { stroke: #57606a; stroke-dasharray: 3 3 } "
    ".interval { stroke: #0969da } .point { fill: #0969da } .aside .interval { stroke: #bc4c00 } .aside .point { fill: #bc4c00 }"
)


def plot_variants(summary: Mapping[str, Mapping[str, Any]], figure: str, label: str, aside: str = "") -> Markup:
    """Mean of a figure of each variant over its work, with the 95 % interval of the difference from full guidance.

    Args:
        summary: Variant -> figures, from `fewer_passes.summarise`; the first is full guidance.
        figure: Name of the figure.
        label: What it is, for the reader.
        aside: Beginning of the names of variants in another colour.
    """
    full = next(iter(summary.values()))
    shown = {name: row for name, row in summary.items() if row[figure] is not None}
    spans = {name: [full[figure] + value for value in row["differences"][figure][1:]] for name, row in shown.items()}
    low, high = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    room = 0.08 * ((high - low) or 1.0)
    works = [row["work"] for row in shown.values()]
    x, y = Scale(min(works) - 0.05, max(works) + 0.05, LEFT, RIGHT), Scale(low - room, high + room, BOTTOM, TOP)
    across, up = ticks(min(works) - 0.05, max(works) + 0.05), ticks(low, high)
    parts = [element("style", STYLE), element("title", f"{label} over the share of computed blocks")]
    parts += x_axis([(value, tick_label(value, across)) for value in across], x, BOTTOM, TOP)
    parts += y_axis([(value, tick_label(value, up)) for value in up], y, LEFT, RIGHT)
    parts.append(element("line", css="full", x1=LEFT, x2=RIGHT, y1=y(full[figure]), y2=y(full[figure])))
    beside: Counter[str] = Counter()
    for name, row in shown.items():
        # Variants of the same work stand side by side.
        at = x(row["work"]) + NEXT * beside[f"{row['work']:.2f}"]
        beside[f"{row['work']:.2f}"] += 1
        top = y(spans[name][1]) - 5
        group = [
            element("line", css="interval", x1=at, x2=at, y1=y(spans[name][0]), y2=y(spans[name][1])),
            element("circle", css="point", cx=at, cy=y(row[figure]), r=3.0),
            element("text", name, x=at + 4, y=top, transform=f"rotate(-90 {at + 4:.1f} {top:.1f})"),
        ]
        parts.append(element("g", *group, css="aside" if aside and name.startswith(aside) else "variant"))
    parts.append(element("text", "computed blocks, of the plain loop of three passes", x=LEFT, y=float(SIZE[1] - 12)))
    parts.append(element("text", label, x=LEFT, y=16.0))
    box = f"0 0 {SIZE[0]} {SIZE[1]}"
    return element(
        "svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, width=str(SIZE[0]), height=str(SIZE[1])
    )


def write_plot(path: Path, summary: Mapping[str, Mapping[str, Any]], figure: str, label: str, aside: str = "") -> None:
    """Write the plot to a file of its own; arguments are those of `plot_variants`."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(str(plot_variants(summary, figure, label, aside)) + "\n", encoding="utf-8")
