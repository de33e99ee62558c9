"""Put the figures of `speed.py` into docs/performance.md: its tables between two marks, and its plot into docs/assets.

python benchmarks/speed_docs.py outputs/speed
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark_run import table
from speed_cells import PASSES, Cell, Shape
from speed_report import Results, latents_title, ratio, shown

from fantasytalking.system.json import read_json_object

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "assets" / "speed.svg"
HEADER = ("", "s a step", "of the loop's sampling", "by CPU time", "s to the file", "GiB", "latents: RMS", "largest")
OTHERS = "Other sizes, lengths and steps, as shares of the loop's sampling (in brackets the RMS error of the latents):"
BEGIN, END = "<!-- figures of benchmarks/speed.py -->", "<!-- end of the figures -->"


def cells_of_record(record: Mapping[str, Any]) -> Results:
    """The cells of a report.json, in its order."""
    found = {}
    for result in record["cells"].values():
        told = result["cell"]
        found[Cell(told["model"], Shape(**told["shape"]), told["kind"], told["name"])] = result
    return found


def summary(record: Mapping[str, Any]) -> str:
    """The tables of the page."""
    found = cells_of_record(record)
    computer, dates = record["machine"], [run["date"][:10] for run in record["runs"]]
    threads = sorted({result["threads"] for result in found.values() if "threads" in result})
    commit = record.get("commit")
    lines = [
        f"{computer['cpu']}, {computer['cores']} cores, PyTorch {computer['torch']}, {'/'.join(map(str, threads))} thread a process, "
        f"{dates[-1]}{f', commit {commit[:7]}' if commit else ''}.\n"
    ]
    first: dict[str, Shape] = {}
    for cell in found:
        first.setdefault(cell.model, cell.shape)
    quality = record.get("quality") or {"labels": {}, "cells": {}}
    labels = {key: label for key, label in quality["labels"].items() if key in ("sync_c", "sync_d", "csim")}
    for model, shape in first.items():
        group = [cell for cell in found if (cell.model, cell.shape) == (model, shape)]
        measured = labels if model == "embedded" else {}
        rows = [_row(found, cell, quality, measured) for cell in group if cell.kind != "pass"]
        header = (*HEADER, *measured.values())
        lines += [
            f"**{latents_title(model, shape, found[group[0]])}**\n",
            table(header, rows),
            "",
            *_passes(found, group),
        ]
    others = [pair for pair in dict.fromkeys((c.model, c.shape) for c in found) if first[pair[0]] != pair[1]]
    if others:
        lines += [f"{OTHERS}\n", _others(found, others), ""]
    return "\n".join(lines)


def _row(found: Results, cell: Cell, quality: Mapping[str, Any], measured: Iterable[str]) -> tuple[Any, ...]:
    result = found[cell]
    figures = quality["cells"].get(cell.key, {})
    host = result.get("host_peak")
    return (
        f"`{cell.name}`" if cell.kind == "profile" else f"plan `{cell.name}`" if cell.kind == "plan" else cell.name,
        shown(result.get("step_seconds")),
        shown(ratio(found, cell)),
        shown(ratio(found, cell, "cpu")),
        shown(result.get("seconds", {}).get("total")),
        shown(host and host / 2**30),
        shown(result.get("rms_error"), 2),
        shown(result.get("max_error"), 2),
        *(shown(figures.get(key)) for key in measured),
    )


def _passes(found: Results, group: Iterable[Cell]) -> list[str]:
    """A sentence about the pass without speech."""
    for result in (found[cell] for cell in group):
        if "of_diffusers" in result:
            wall, cpu = result["of_diffusers"], result["of_diffusers_by_cpu_time"]
            return [
                f"Two passes without speech take {wall[PASSES[1]]:.3f} of what they take in diffusers' `WanImageToVideoPipeline` "
                f"({cpu[PASSES[1]]:.3f} by CPU time), one by one and with nothing kept; by our defaults {wall[PASSES[2]]:.3f}.\n"
            ]
    return []


def _others(found: Results, pairs: Iterable[tuple[str, Shape]]) -> str:
    names = ("exact", "balanced", "fast", "turbo")
    rows = []
    for model, shape in pairs:
        cells = [Cell(model, shape, "profile", name) for name in names]
        first = next(result for cell, result in found.items() if (cell.model, cell.shape) == (model, shape))
        rows.append((latents_title(model, shape, first), *(_share(found, cell) for cell in cells)))
    return table(("", *names), rows)


def _share(found: Results, cell: Cell) -> str | None:
    share = ratio(found, cell)
    return None if share is None else f"{share:.2f} ({shown(found[cell].get('rms_error'), 2)})"


def put(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    whole = page.read_text("utf-8")
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", "utf-8")


def main() -> int:
    """Write page and plot."""
    output = Path(sys.argv[1])
    put(PAGE, summary(read_json_object(output / "report.json")))
    shutil.copy(output / "speed.svg", PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
