"""`fantasytalking prepare`: from raw videos to a prepared set, what training reads."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.progress import quiet_frameworks

if TYPE_CHECKING:
    from fantasytalking.data.preparation.prepare_set import Counts, Watcher

__all__ = ["Prepare", "main", "run"]


@dataclass(frozen=True)
class Prepare:
    """Turn raw videos into a prepared set: clips of one speaking face in sync with its sound, measured and packed into shards.

    Given again, the command goes on where it was stopped, and repeats no finished shard. What is left out is listed with its reason
    in clips.jsonl and report.html. The set's folder is the last line of the output.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Video files, folders (searched to the bottom), catalogue.jsonl files or folders that hold one."""
    output: Path
    """Folder of the set."""
    identity: Literal["stem", "folder"] = "stem"
    """Whom a video shows that no catalogue names: its file name's, or its folder's."""
    val_share: float = 0.0
    """Share of the people in no catalogue whose clips are kept for validation, 0 to 0.9."""
    clips_per_shard: int = 64
    """Candidates of a shard."""
    workers: int | None = None
    """Worker processes; nothing means one a processor core, 0 works in this process without Ray."""
    address: str | None = None
    """A Ray cluster to work on: auto, HOST:PORT or ray://HOST:PORT. Nothing means this machine."""
    gpus_per_worker: float = 0.0
    """Share of an accelerator that each worker takes, such as 1 or 0.25."""
    overwrite: bool = False
    """Delete a set that was made of other videos or with other settings."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""
    settings: PreparationSettings = field(default_factory=PreparationSettings)
    """What becomes a clip."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking prepare --help`."""
    return run(parse(Prepare, "prepare", arguments))


def run(options: Prepare) -> int:
    """Prepare as the options say.

    Raises:
        SettingsError: no videos, or a number outside its range.
        InputError: the videos, the model or the cluster cannot be used.
        OutputError: the folder of the set cannot be used.
    """
    if not options.videos:
        raise SettingsError("There is no video to prepare; give files, folders or a catalogue.jsonl.")
    # Here and not above: --help must not wait for the frameworks, nor they say what they lack while they are imported.
    quiet_frameworks()
    from fantasytalking.data.preparation.prepare_set import Running, prepare
    from fantasytalking.data.preparation.work_folder import read_json

    running = Running(
        options.clips_per_shard,
        options.identity,
        options.val_share,
        options.workers,
        options.address,
        options.gpus_per_worker,
        options.overwrite,
    )
    try:
        prepared = prepare(options.videos, options.output, options.settings, running, terminal_watcher())
    except KeyboardInterrupt:
        print("note: Finished shards are kept; give the same command again to go on.", file=sys.stderr)
        raise
    manifest = read_json(options.output.expanduser() / "manifest.json")
    return _print(options, manifest, made=prepared is not None)


def _print(options: Prepare, manifest: dict[str, Any], made: bool) -> int:
    totals, dropped = manifest["totals"], Counter(manifest["dropped"])
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
    page = options.output / "report.html"
    if options.json:
        shown = {"output": str(options.output), "report": str(page), "totals": totals, "dropped": manifest["dropped"]}
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(
            f"{totals['kept']} of {totals['candidates']} candidates kept ({totals['seconds'] / 60:.1f} minutes), "
            f"{totals['dropped']} left out{f': {reasons}' if reasons else ''}; see {page}",
            file=sys.stderr,
        )
        if made:
            print(options.output)
    if not made:
        print(f"error: Not one clip could be kept ({reasons}); {page} shows why.", file=sys.stderr)
    return 0 if made else SettingsError.exit_code


def terminal_watcher() -> Watcher:
    """Bars on stderr with counts, rate and time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from fantasytalking.data.preparation.prepare_set import Watcher

    console = Console(stderr=True)

    class Terminal(Watcher):
        def note(self, text: str) -> None:
            console.print(f"note: {text}", style="yellow", markup=False, highlight=False)

        @contextmanager
        def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[Counts], None]]:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(compact=True),
            )
            with Progress(*columns, console=console, speed_estimate_period=120) as bars:
                task = bars.add_task(f"{name:<7}", total=total, completed=begun, counts="")
                yield lambda counts: bars.update(
                    task, completed=counts.done, counts=_told(counts, begun, bars.tasks[0].elapsed)
                )

    return Terminal()


def _told(counts: Counts, begun: int, seconds: float | None) -> str:
    rate = (counts.done - begun) / seconds if seconds else 0.0
    sorted_out = f"{counts.kept} kept, {counts.dropped} dropped, " if counts.kept or counts.dropped else ""
    return f"{sorted_out}{rate:.2f}/s" if rate else sorted_out.rstrip(", ")
