"""`fantasytalking evaluate`: score folders of videos and write a report."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.metrics.registry import ALL, METRICS, Backend, metrics_help
from fantasytalking.pipeline.progress import TerminalProgress, quiet_frameworks

if TYPE_CHECKING:
    from fantasytalking.evaluation.results import Report

__all__ = ["main"]


@dataclass(frozen=True)
class Evaluate:
    """Score generated videos as the paper does. The path of the HTML report is the last line of the output.

    Files are paired by name. Every table contains the ground truth and two baselines. A metric whose network is not installed is
    measured by a labelled proxy. After an interruption, the same command continues where it stopped.
    """

    reference: Path
    """Folder of the real clips."""
    output: Path
    """Folder of the report; measurements stored in it are reused."""
    generated: tuple[str, ...] = ()
    """Folders of generated videos, each as FOLDER or NAME=FOLDER, NAME for the table; without any, only the real clips are measured."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(help=metrics_help())] = ()
    protocol: str = "standard"
    """standard (512 pixels), small (256 pixels, 10 s), a JSON file of fields, or the folder of a report to repeat."""
    backend: Backend = "auto"
    """Networks of the metrics: auto takes the standard one where its weights are installed, and the labelled proxy elsewhere."""
    fetch: bool = False
    """Download the missing weights of the requested metrics, after printing sizes and licences."""
    baselines: tuple[str, ...] = ("still", "shuffled")
    """Baselines made from the real clips: still (first frame), shuffled (other sound); none leaves both out."""
    workers: int | None = None
    """Number of processes; by default one per core, at most 8, and one on an accelerator."""
    device: str = "auto"
    """Device of the standard networks: auto, cpu, cuda, cuda:1, mps."""
    media: bool = True
    """Show the best and worst clips on the page; without them it is small and shows no faces."""
    json: bool = False
    """Print one JSON object instead of the table, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking evaluate --help`."""
    options = parse(Evaluate, "evaluate", arguments)
    methods = named_folders(options.generated)
    # Imported here: --help must not wait for the frameworks, whose messages about missing packages are silenced first.
    quiet_frameworks()
    from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
    from fantasytalking.evaluation.protocol import load_protocol
    from fantasytalking.evaluation.report.write_report import table_text

    metrics = options.metrics or ALL
    if options.fetch:
        from fantasytalking.evaluation.networks.metric_weights import fetch

        needed = [key for name in metrics if name in METRICS for key in METRICS[name].weights]
        fetch(needed, say=lambda text: print(text, file=sys.stderr))
    baselines = () if options.baselines == ("none",) else options.baselines
    found = evaluate(
        methods,
        options.reference,
        options.output,
        EvaluationOptions(
            load_protocol(options.protocol),
            metrics,
            options.backend,
            baselines,
            options.workers,
            options.device,
            shlex.join(["fantasytalking", "evaluate", *arguments]),
            options.media,
        ),
        TerminalProgress(),
    )
    page = options.output / "report.html"
    for problem in found.problems:
        print(f"note: {problem.method}, {problem.clip}: {problem.reason}", file=sys.stderr)
    if options.json:
        cells = cells_by_label(found)
        print(json.dumps({"output": str(page), "problems": len(found.problems), "methods": cells}, ensure_ascii=False))
    else:
        print(table_text(found))
        print(page)
    lost = [m.name for m in found.methods if m.kind == "method" and not m.clips]
    if lost:
        print(f"error: No clip of {', '.join(lost)} could be measured; the reasons are above.", file=sys.stderr)
    return 2 if lost else 0


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Read words of the form FOLDER or NAME=FOLDER; a folder alone takes its own name.

    Returns:
        Name of the row -> folder.

    Raises:
        SettingsError: A name is empty or given twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, separator, folder = word.partition("=")
        if not separator:
            name, folder = Path(word).resolve().name, word
        if not name or not folder:
            raise SettingsError(f"'{word}' is neither FOLDER nor NAME=FOLDER; write it as ours=outputs/ours.")
        if name in found:
            raise SettingsError(f"Two folders are called '{name}'; give each a name of its own as NAME=FOLDER.")
        found[name] = Path(folder)
    return found


def cells_by_label(report: Report) -> dict[str, dict[str, float | None]]:
    """Values of a report by row and column, under the labels of the table, where a proxy has its own name."""
    labels = {column.key: column.label for column in report.columns}
    return {
        m.name: {labels[key]: cell.value for key, cell in m.summary.items() if key in labels} for m in report.methods
    }
