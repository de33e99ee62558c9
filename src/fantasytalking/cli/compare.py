"""`fantasytalking compare`: join several reports in one table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fantasytalking.cli.evaluate import cells_by_label
from fantasytalking.cli.options import parse
from fantasytalking.errors import InputError, OutputError
from fantasytalking.pipeline.progress import TerminalProgress, quiet_frameworks

__all__ = ["main"]


@dataclass(frozen=True)
class Compare:
    """Join reports of `fantasytalking evaluate` in one table. The path of the HTML page is the last line of the output.

    Every difference between their protocols is a warning, on the page and on the screen.
    """

    reports: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of reports, two or more."""
    output: Path
    """Folder of the joint report."""
    media: bool = True
    """Show the best and worst clips in the page; without them it is small and shows no faces."""
    json: bool = False
    """Print one JSON object instead of the table, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking compare --help`."""
    options = parse(Compare, "compare", arguments)
    # Read before the frameworks are loaded, which takes seconds.
    from fantasytalking.evaluation.results import Report, load_report

    if len(options.reports) < 2:
        raise InputError(f"Joining takes two reports or more, and {len(options.reports)} was given.")
    reports = [load_report(path) for path in options.reports]
    _check_output(options)
    progress = TerminalProgress()
    with progress.stage("loading"):
        quiet_frameworks()
        from fantasytalking.evaluation.compare import join_reports
        from fantasytalking.evaluation.report.write_report import embedded_count, table_text, write_report
        from fantasytalking.system.folder_owner import owned

    names = [str(path) for path in options.reports]
    joint: Report = join_reports(reports, names, shlex.join(["fantasytalking", "compare", *arguments]))
    videos = embedded_count(joint) if options.media else 1
    with (
        owned(options.output, "writing a report into", tell=progress.note),
        progress.stage("writing", videos) as advance,
    ):
        page = write_report(joint, options.output, options.media, advance)
    if options.json:
        cells = cells_by_label(joint)
        print(json.dumps({"output": str(page), "warnings": joint.warnings, "methods": cells}, ensure_ascii=False))
    else:
        print(table_text(joint))
        print(page)
    return 0


def _check_output(options: Compare) -> None:
    if options.output.exists() and not options.output.is_dir():
        raise OutputError(f"The output '{options.output}' is a file; give the name of a folder.")
    for path in options.reports:
        if options.output.resolve() == (path if path.is_dir() else path.parent).resolve():
            raise OutputError(
                f"The output '{options.output}' is one of the reports, which it would replace; give another folder."
            )
