"""`fantasytalking prepare`: from raw videos to a prepared set, what training reads."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.cli.record_options import make_record, record_options
from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.progress import Lines, quiet_frameworks, shown, stage
from fantasytalking.system.json import read_json

if TYPE_CHECKING:
    from fantasytalking.data.preparation.phase_progress import PhaseCounts, PhaseProgress

__all__ = ["Prepare", "main", "run"]


if TYPE_CHECKING:
    SettingOptions = PreparationSettings
    ExecutionOptions = RunSettings
else:
    SettingOptions = record_options(PreparationSettings)
    ExecutionOptions = record_options(RunSettings)


@dataclass(frozen=True)
class Prepare:
    """Turn raw videos into a prepared set: clips of one speaking face in sync with its sound, measured and packed into shards.

    Run the same command again to resume; finished shards are not repeated. Candidates that are left out are listed with their reasons
    in clips.jsonl and report.html. The last line of the output is the set's folder.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Video files, folders (searched recursively), catalogue.jsonl files or folders that hold one."""
    output: Path
    """Folder of the set."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    """How the command is run."""
    settings: SettingOptions = field(default_factory=SettingOptions)
    """Which parts of the videos become clips, and how."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking prepare --help`."""
    return run(parse(Prepare, "prepare", arguments))


def run(options: Prepare) -> int:
    """Prepare a set and print where it is.

    Returns:
        The exit code: 0, or 2 if no clip was kept.

    Raises:
        SettingsError: No videos were given, or a value is not accepted.
        InputError: The videos, the model or the cluster cannot be used.
        OutputError: The folder of the set cannot be used.
    """
    if not options.videos:
        raise SettingsError("There is no video to prepare; give files, folders or a catalogue.jsonl.")
    settings = make_record(PreparationSettings, options.settings)
    execution = make_record(RunSettings, options.execution)
    # Imported here and not above: --help must not wait for it.
    from fantasytalking.data.preparation.early_checks import check_request

    check_request(options.videos, options.output, settings, execution)
    # Imported here: neither --help nor a mistake must wait for the frameworks, and they must be quiet before they are imported.
    with stage("loading"):
        quiet_frameworks()
        from fantasytalking.data.preparation.prepare_set import prepare

    progress = terminal_progress()
    if settings.seed and not execution.val_share:
        progress.note("--seed chooses the people for validation and has no effect without --val-share.")
    prepared = prepare(options.videos, options.output, settings, execution, progress)
    manifest = read_json(options.output.expanduser() / "manifest.json")
    return _print(options, manifest, kept=prepared is not None)


def _print(options: Prepare, manifest: dict[str, Any], kept: bool) -> int:
    totals, dropped = manifest["totals"], Counter(manifest["dropped"])
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
    page = options.output / "report.html"
    if options.json:
        shown = {"output": str(options.output), "report": str(page), "totals": totals, "dropped": manifest["dropped"]}
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(
            f"{totals['kept']} of {totals['candidates']} clips found in the videos kept ({totals['seconds'] / 60:.1f} minutes), "
            f"{totals['dropped']} left out{f': {reasons}' if reasons else ''}; see {page}",
            file=sys.stderr,
        )
        if kept:
            print(options.output)
    if not kept:
        print(f"error: No clip was kept ({reasons}); {page} shows why.", file=sys.stderr)
    return 0 if kept else SettingsError.exit_code


def terminal_progress() -> PhaseProgress:
    """Progress on stderr with counts, rate and remaining time."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from fantasytalking.data.preparation.phase_progress import PhaseProgress

    class TerminalBars(PhaseProgress):
        @contextmanager
        def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[PhaseCounts], None]]:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                TextColumn("passed,"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            start, lines = time.monotonic(), Lines(name, total, begun)
            with shown(*columns) as bars:
                task = None if bars is None else bars.add_task(f"{name:<7}", total=total, completed=begun, counts="")

                def show(counts: PhaseCounts) -> None:
                    text = _shown(counts, begun, time.monotonic() - start)
                    if bars is None or task is None:
                        lines.reach(counts.done, text)
                    else:
                        bars.update(task, completed=counts.done, counts=text)

                yield show
            if bars is None:
                lines.end()

    return TerminalBars()


def _shown(counts: PhaseCounts, begun: int, seconds: float | None) -> str:
    rate = (counts.done - begun) / seconds if seconds else 0.0
    sorted_out = f"{counts.kept} kept, {counts.dropped} left out, " if counts.kept or counts.dropped else ""
    return f"{sorted_out}{rate:.2f}/s" if rate else sorted_out.rstrip(", ")
