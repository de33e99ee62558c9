"""`fantasytalking benchmark`: generate the cases of a manifest, score them and judge the expectations."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fantasytalking.cli.evaluate import cells_by_label, tell_problems
from fantasytalking.cli.options import parse
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.evaluation.metrics.registry import Backend, metrics_help
from fantasytalking.pipeline.progress import Progress, TerminalProgress, quiet_frameworks
from fantasytalking.system.startup import check_device, importing_frameworks

if TYPE_CHECKING:
    from fantasytalking.evaluation.benchmark.benchmark_manifest import Manifest
    from fantasytalking.evaluation.benchmark.run_benchmark import BenchmarkOutcome
    from fantasytalking.evaluation.evaluation_options import EvaluationOptions

__all__ = ["Benchmark", "main", "run"]


@dataclass(frozen=True)
class Benchmark:
    """Generate the cases of a manifest on one or several devices, then score them; an interrupted run can be resumed.

    Videos of an earlier run in the output folder are reused. The path of the report is the last line of the output.
    """

    manifest: Annotated[str | None, tyro.conf.Positional] = None
    """Name of a shipped manifest (see --list), or a JSON file."""
    data: Path | None = None
    """Folder that the manifest's file names are relative to; by default published footage is fetched."""
    output: Path | None = None
    """Folder of the run: references, generated videos, report."""
    models: tuple[str, ...] = ()
    """Models that the manifest calls $NAME, as NAME=FOLDER."""
    methods: tuple[str, ...] = ()
    """Only these methods of the manifest; by default all."""
    limit: int | None = None
    """Only this many cases, from the first on; by default all."""
    devices: tuple[str, ...] = ()
    """Devices for generation, with one process each: auto, cpu, cuda:0, cuda:1. By default auto."""
    workers: int | None = None
    """Processes on the CPU; by default one for generation, and one per core for scoring."""
    protocol: str = "standard"
    """Protocol of the scoring: its name, a JSON file of its fields, or a report to repeat."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(help=metrics_help())] = ()
    backend: Backend = "auto"
    """Networks of the metrics: auto takes the standard ones where they are installed and labelled proxies elsewhere."""
    baselines: tuple[str, ...] = ("still", "shuffled")
    """Baselines made from the real clips: still (first frame), shuffled (other sound); none leaves both out."""
    generate_only: bool = False
    """Generate the videos without scoring them."""
    score_only: bool = False
    """Score the existing videos without generating any."""
    list: bool = False
    """Print the shipped manifests and stop."""
    json: bool = False
    """Print one JSON object instead of the path, for programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; see `fantasytalking benchmark --help`."""
    command = shlex.join(["fantasytalking", "benchmark", *arguments])
    return run(parse(Benchmark, "benchmark", arguments), command)


def run(options: Benchmark, command: str = "") -> int:
    """Run a benchmark and print the path of the result.

    Args:
        options: Options of the command line.
        command: The command, for the report.

    Returns:
        The exit status.

    Raises:
        SettingsError: An option is missing, or two of them exclude each other.
        InputError: The manifest or the data cannot be used.
        OutputError: The output folder cannot be used.
    """
    if options.list:
        return _list(options.json)
    if options.manifest is None or options.output is None:
        missing = [n for n in ("manifest", "data", "output") if getattr(options, n) is None]
        names = ", ".join("a manifest" if name == "manifest" else f"--{name}" for name in missing)
        raise SettingsError(f"The benchmark lacks {names}; give it, or --list for the shipped manifests.")
    if options.generate_only and options.score_only:
        raise SettingsError("--generate-only and --score-only exclude each other; leave both out to do everything.")
    if options.limit is not None and options.limit < 1:
        raise SettingsError(f"--limit must be at least 1, but {options.limit} was given.")
    for device in options.devices:
        check_device(device)
    models = _models(options.models)
    progress = TerminalProgress()
    scoring = _scoring(options, command)
    manifest = _checked_manifest(options, models)
    data = options.data or _fetched(manifest, options, progress)
    # Imported here: --help and a mistake must not wait for the frameworks, whose messages about missing packages are silenced first.
    with progress.stage("loading"), importing_frameworks():
        quiet_frameworks()
        from fantasytalking.evaluation.benchmark.run_benchmark import BenchmarkOptions, run_benchmark

    running = BenchmarkOptions(
        methods=options.methods,
        models=models,
        limit=options.limit,
        devices=options.devices,
        workers=options.workers,
        generate=not options.score_only,
        score=not options.generate_only,
        scoring=scoring,
    )
    outcome = run_benchmark(manifest, data, options.output, running, progress)
    return _print(outcome, options, progress)


def _checked_manifest(options: Benchmark, models: dict[str, str]) -> Manifest:
    """Read the manifest, and check what can be checked without a framework."""
    from fantasytalking.evaluation.benchmark.fetch_footage import footage_folder
    from fantasytalking.evaluation.benchmark.output_folder import check_output_folder
    from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest
    from fantasytalking.pipeline.model_names import resolve_model

    assert options.manifest is not None and options.output is not None
    manifest = load_manifest(options.manifest)
    chosen = manifest.resolved(options.methods, models)
    if options.data is None:
        footage_folder(manifest)
    elif not options.data.is_dir():
        raise InputError(
            f"The data folder '{options.data}' does not exist; give the folder that the manifest's files are in."
        )
    for name in dict.fromkeys(method.model for method in chosen.methods):
        resolve_model(name)
    check_output_folder(options.output, chosen.name)
    return manifest


def _fetched(manifest: Manifest, options: Benchmark, progress: Progress) -> Path:
    from fantasytalking.evaluation.benchmark.fetch_footage import fetch_footage

    with progress.stage("fetching"):
        return fetch_footage(manifest, options.limit, progress.note)


def _scoring(options: Benchmark, command: str) -> EvaluationOptions:
    from fantasytalking.evaluation.evaluation_options import EvaluationOptions, check_weights
    from fantasytalking.evaluation.metrics.registry import ALL
    from fantasytalking.evaluation.protocol import load_protocol

    scoring = EvaluationOptions(
        protocol=load_protocol(options.protocol),
        metrics=options.metrics or ALL,
        backend=options.backend,
        baselines=() if options.baselines == ("none",) else options.baselines,
        workers=options.workers,
        device=options.devices[0] if options.devices else "auto",
        command=command,
    )
    if scoring.backend == "standard" and not options.generate_only:
        check_weights(scoring.metrics)
    return scoring


def _models(given: Sequence[str]) -> dict[str, str]:
    models = {}
    for text in given:
        name, sign, folder = text.partition("=")
        if not (name and sign and folder):
            raise SettingsError(f"--models takes NAME=FOLDER, but {text!r} was given.")
        models[name.removeprefix("$")] = folder
    return models


def _print(outcome: BenchmarkOutcome, options: Benchmark, progress: Progress) -> int:
    from fantasytalking.evaluation.benchmark.expectations import trend_table

    assert options.output is not None
    folder = options.output / ("generated" if outcome.report is None else "report")
    path = folder if outcome.report is None else folder / "report.html"
    if outcome.report is not None:
        tell_problems(outcome.report, progress)
    if options.json:
        found: dict[str, Any] = {
            "output": str(path),
            "made": outcome.made,
            "kept": outcome.kept,
            "left_out": [dataclasses.asdict(item) for item in outcome.left_out],
            "trends": [dataclasses.asdict(trend) for trend in outcome.trends],
        }
        if outcome.report is not None:
            found["warnings"] = outcome.report.warnings
            found["methods"] = cells_by_label(outcome.report)
        print(json.dumps(found, ensure_ascii=False))
        return 0
    if outcome.report is not None:
        from fantasytalking.evaluation.report.write_report import table_text

        print(table_text(outcome.report))
    if outcome.trends:
        print(f"\n{trend_table(outcome.trends)}\n")
    progress.note(f"{outcome.made} videos generated, {outcome.kept} kept, {len(outcome.left_out)} left out.")
    print(path)
    return 0


def _list(as_json: bool) -> int:
    from fantasytalking.evaluation.benchmark.parse_manifest import load_manifest, shipped_names

    manifests = [load_manifest(name) for name in shipped_names()]
    if as_json:
        rows = [
            {
                "name": m.name,
                "cases": len(m.cases),
                "methods": [x.name for x in m.methods],
                "description": m.description,
            }
            for m in manifests
        ]
        print(json.dumps({"manifests": rows}))
        return 0
    for m in manifests:
        print(f"{m.name} ({len(m.cases)} cases; {', '.join(x.name for x in m.methods)})\n  {m.description}")
    return 0
