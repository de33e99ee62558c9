"""`fantasytalking manifest`: make a benchmark's manifest from a folder of real videos."""

from __future__ import annotations

import json as json_module
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fantasytalking.cli.options import parse
from fantasytalking.errors import SettingsError
from fantasytalking.pipeline.progress import TerminalProgress
from fantasytalking.system.files import check_output
from fantasytalking.system.printable_text import printable

if TYPE_CHECKING:
    from fantasytalking.evaluation.benchmark.clip_choice import ClipChoice

__all__ = ["MakeManifest", "main", "run"]


@dataclass(frozen=True)
class MakeManifest:
    """Choose clips from real videos and write a manifest of names, times and hashes.

    Videos that are too short, without sound, not showing a face throughout, or frozen while there is sound are skipped, with the reason.
    The last line of the output is the path of the manifest.
    """

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Video files, and folders to search for them."""
    output: Path
    """The manifest to write, a JSON file."""
    name: str
    """Name of the benchmark: letters, digits, - and _."""
    clips: int = 50
    """Maximum number of clips."""
    seconds: float = 5.0
    """Length of a clip."""
    seed: int = 0
    """Seed of the choice of clips and of the noise."""
    fps: float | None = None
    """Frame rate of the generated videos; by default each model's own."""
    one_per: Literal["folder", "prefix"] | None = None
    """At most one clip from each folder, or from files whose names are equal up to the last _ or -."""
    model: str = "embedded"
    """Model of the methods: embedded, a folder, a repository on the hub, or a placeholder such as $MODEL."""
    overwrite: bool = False
    """Replace the output if it exists."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking manifest --help`."""
    return run(parse(MakeManifest, "manifest", arguments))


def run(options: MakeManifest) -> int:
    """Make a manifest.

    Args:
        options: Options of the command line.

    Returns:
        The exit status.

    Raises:
        SettingsError: A number is outside its range, or the name is invalid.
        InputError: There is no video, or none that can be used.
        OutputError: The manifest cannot be written.
    """
    target = check_output(options.output, options.overwrite)
    choice = _checked_choice(options)
    progress = TerminalProgress()
    # Imported here: --help and a mistake must not wait for the frameworks.
    with progress.stage("loading"):
        from fantasytalking.evaluation.benchmark.benchmark_manifest import save_manifest
        from fantasytalking.evaluation.benchmark.make_manifest import make_manifest
        from fantasytalking.evaluation.benchmark.parse_manifest import read_manifest

    made = make_manifest(options.videos, options.name, choice, progress)
    # Check that the manifest can be read back, whatever the names of the files.
    read_manifest(made.manifest.to_dict(), "The manifest")
    save_manifest(made.manifest, target)
    for file, reason in made.skipped.items():
        progress.note(printable(f"Skipped {file}: {reason}"))
    clips = len(made.manifest.cases)
    if options.json:
        found = {"output": str(target), "data": str(made.data), "clips": clips, "skipped": made.skipped}
        print(json_module.dumps(found))
        return 0
    if clips < options.clips:
        progress.note(f"{clips} clips can be used, fewer than --clips {options.clips}.")
    progress.note(printable(f"{clips} clips; run it with --data {shlex.quote(str(made.data))}"))
    print(target)
    return 0


def _checked_choice(options: MakeManifest) -> ClipChoice:
    """Check what can be checked without a framework."""
    from fantasytalking.evaluation.benchmark.benchmark_manifest import check_model, check_name
    from fantasytalking.evaluation.benchmark.clip_choice import ClipChoice, find_sources

    for option, check, value in (("name", check_name, options.name), ("model", check_model, options.model)):
        try:
            check(value)
        except ValueError as error:
            raise SettingsError(f"--{option} {error}") from error
    choice = ClipChoice(options.clips, options.seconds, options.seed, options.fps, options.one_per, options.model)
    find_sources(options.videos)
    return choice
