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
from fantasytalking.pipeline.progress import Progress, TerminalProgress, quiet_frameworks
from fantasytalking.system.printable_text import printable
from fantasytalking.system.startup import check_device

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
    """Show the best and worst clips in the page; without them it is small and shows no faces."""
    json: bool = False
    """Print one JSON object instead of the table, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking evaluate --help`."""
    options = parse(Evaluate, "evaluate", arguments)
    methods = named_folders(options.generated)
    # Imported when it is needed, and checked before the frameworks, which take seconds to load.
    from fantasytalking.evaluation.evaluation_options import EvaluationOptions, check_folders, check_weights
    from fantasytalking.evaluation.protocol import load_protocol

    choices = EvaluationOptions(
        protocol=load_protocol(options.protocol),
        metrics=options.metrics or ALL,
        backend=options.backend,
        baselines=() if options.baselines == ("none",) else options.baselines,
        workers=options.workers,
        device=options.device,
        command=shlex.join(["fantasytalking", "evaluate", *arguments]),
        media=options.media,
    )
    check_device(choices.device)
    check_folders(methods, options.reference, options.output)
    progress = TerminalProgress()
    if options.fetch:
        from fantasytalking.evaluation.networks.metric_weights import fetch

        fetch([key for name in choices.metrics for key in METRICS[name].weights], say=progress.note)
    if choices.backend == "standard":
        check_weights(choices.metrics)
    with progress.stage("loading"):
        quiet_frameworks()
        from fantasytalking.evaluation.evaluate import evaluate

    found = evaluate(methods, options.reference, options.output, choices, progress)
    _print(found, options, progress)
    lost = [m.name for m in found.methods if m.kind == "method" and not m.clips]
    if lost:
        print(f"error: No clip of {', '.join(lost)} could be measured; the reasons are above.", file=sys.stderr)
    return 2 if lost else 0


def _print(found: Report, options: Evaluate, progress: Progress) -> None:
    from fantasytalking.evaluation.report.write_report import table_text

    page = options.output / "report.html"
    tell_problems(found, progress)
    if options.json:
        numbers = {"output": str(page), "problems": len(found.problems), "warnings": found.warnings}
        print(json.dumps({**numbers, "methods": cells_by_label(found)}, ensure_ascii=False))
    else:
        print(table_text(found))
        print(page)


def tell_problems(report: Report, progress: Progress) -> None:
    """Tell the problems of a report, one note each."""
    for problem in report.problems:
        progress.note(printable(f"{problem.method}, {problem.clip}: {problem.reason}"))


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
