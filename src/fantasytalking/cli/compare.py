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
from fantasytalking.errors import OutputError
from fantasytalking.pipeline.progress import quiet_frameworks

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
    """Show the best and worst clips on the page."""
    json: bool = False
    """Print one JSON object instead of the table, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking compare --help`."""
    options = parse(Compare, "compare", arguments)
    quiet_frameworks()
    from fantasytalking.evaluation.compare import join_reports
    from fantasytalking.evaluation.report.write_report import table_text, write_report
    from fantasytalking.evaluation.results import load_report

    names = [str(path) for path in options.reports]
    command = shlex.join(["fantasytalking", "compare", *arguments])
    joint = join_reports([load_report(path) for path in options.reports], names, command)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder '{options.output}' cannot be made ({error.strerror}); choose another one."
        ) from error
    page = write_report(joint, options.output, options.media)
    if options.json:
        cells = cells_by_label(joint)
        print(json.dumps({"output": str(page), "warnings": joint.warnings, "methods": cells}, ensure_ascii=False))
    else:
        print(table_text(joint))
        print(page)
    return 0
