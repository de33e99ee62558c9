"""A benchmark from manifest to report: check the files, generate missing videos, score them, judge the expectations.

```
OUTPUT/manifest.json                      the manifest of the run, models resolved
OUTPUT/references/CASE.mp4 + CASE.json    the real clips
OUTPUT/generated/METHOD/CASE.mp4 + .json  the videos, each with the record of what determines it
OUTPUT/scored/METHOD/CASE.mp4             links to the videos that the report is about
OUTPUT/left_out.json                      cases and videos that are missing, and why
OUTPUT/report/                            report of `evaluate`, with trends.json and trends.md
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Manifest, save_manifest
from fantasytalking.evaluation.benchmark.case_inputs import (
    REFERENCE_CRF,
    bad_files,
    choose_donors,
    link_file,
    unusable,
    write_reference,
)
from fantasytalking.evaluation.benchmark.device_workers import choose_places, run_jobs
from fantasytalking.evaluation.benchmark.expectations import Trend, judge, save_trends
from fantasytalking.evaluation.benchmark.generate_case import VideoJob, find_model, is_made, plan_job
from fantasytalking.evaluation.benchmark.output_folder import check_output_folder, open_output_folder
from fantasytalking.evaluation.evaluate import EvaluationOptions, evaluate
from fantasytalking.evaluation.results import Report
from fantasytalking.pipeline.progress import Progress
from fantasytalking.system.folder_owner import owned
from fantasytalking.system.json import write_json

__all__ = ["BenchmarkOptions", "BenchmarkOutcome", "LeftOut", "run_benchmark"]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Choices of a benchmark run.

    Attributes:
        methods: Names of the manifest's methods; none means all.
        models: NAME -> what the manifest's `$NAME` stands for.
        limit: Number of cases, the first ones; None means all. Whose speech a case gets does not depend on it.
        devices: Devices that generate videos, one process each; none means the fastest available one.
        workers: Processes on the CPU.
        generate: Whether missing videos are generated.
        score: Whether the videos are scored.
        scoring: Choices of the evaluation.
    """

    methods: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    devices: tuple[str, ...] = ()
    workers: int | None = None
    generate: bool = True
    score: bool = True
    scoring: EvaluationOptions = field(default_factory=EvaluationOptions)


@dataclass(frozen=True)
class LeftOut:
    """A case that could not be used, or a video of it that could not be generated.

    Attributes:
        case: Name of the case.
        method: Name of the method; "" means all of them.
        reason: Why, as a sentence.
    """

    case: str
    method: str
    reason: str


@dataclass(frozen=True)
class BenchmarkOutcome:
    """Result of a run.

    Attributes:
        made: Number of videos generated in this run.
        kept: Number of videos that existed already.
        left_out: Missing cases and videos, and why.
        report: Report of the evaluation; None where nothing was scored.
        trends: The manifest's expectations, judged.
    """

    made: int
    kept: int
    left_out: tuple[LeftOut, ...]
    report: Report | None
    trends: tuple[Trend, ...]


def run_benchmark(
    manifest: Manifest, data: Path, output: Path, options: BenchmarkOptions, progress: Progress
) -> BenchmarkOutcome:
    """Run a benchmark; videos of an earlier run of the same benchmark in `output` are used again.

    Args:
        manifest: The benchmark.
        data: Folder that its file names are relative to.
        output: Folder of the run.
        options: Which part of it runs, and where.
        progress: Shows stages and notes.

    Raises:
        InputError: A model of the manifest was not given, or no case of it could be used.
        CheckpointError: A model is missing or incomplete.
        OutputError: The output folder cannot be used, or another process runs a benchmark in it.
    """
    chosen = manifest.resolved(options.methods, options.models)
    places = choose_places(options.devices, options.workers)
    if not data.is_dir():
        raise InputError(f"The data folder '{data}' does not exist; give the folder that the manifest's files are in.")
    check_output_folder(output, chosen.name)
    with owned(output, "running a benchmark in", tell=progress.note):
        return _run(chosen, places, data, output, options, progress)


def _run(
    chosen: Manifest,
    places: Sequence[str],
    data: Path,
    output: Path,
    options: BenchmarkOptions,
    progress: Progress,
) -> BenchmarkOutcome:
    cases = chosen.cases[: options.limit]
    with progress.stage("checking"):
        donors = choose_donors(chosen.cases)
        foreign = any(method.speech == "other" for method in chosen.methods)
        read = [*cases, *(donors[c.name] for c in cases if c.name in donors)] if foreign else cases
        bad = bad_files(read, data)
    left_out = [LeftOut(name, "", reason) for name, reason in unusable(cases, bad).items()]
    cases = tuple(case for case in cases if not bad.keys() & case.inputs.keys())
    if cases:
        # Not before: a wrong data folder leaves nothing behind.
        open_output_folder(output)
        save_manifest(chosen, output / "manifest.json")
        cases = _write_references(cases, data, output, options, progress, left_out)
    if not cases:
        raise InputError(f"No case of '{chosen.name}' can be used; the first reason: {left_out[0].reason}")
    jobs = _plan(chosen, cases, donors, bad, data, output, progress, left_out)
    made, kept = _generate(jobs, places, options, progress, left_out)
    _report_left_out(left_out, output, progress)
    report = _score(chosen, jobs, left_out, output, options, progress) if options.score else None
    trends = judge(chosen.expectations, report) if report is not None else []
    if report is not None:
        save_trends(trends, output / "report")
    return BenchmarkOutcome(made, kept, tuple(left_out), report, tuple(trends))


def _write_references(
    cases: Sequence[Case],
    data: Path,
    output: Path,
    options: BenchmarkOptions,
    progress: Progress,
    left_out: list[LeftOut],
) -> tuple[Case, ...]:
    """Write the real clips of exactly these cases, so that nothing else is scored; returns the cases that have one."""
    folder, good, cut = output / "references", [], []
    names = {case.name for case in cases}
    for path in folder.iterdir():
        if path.name.partition(".")[0] not in names:
            path.unlink()
    with progress.stage("references", len(cases)) as advance:
        for case in cases:
            try:
                again = write_reference(case, data, folder, options.scoring.protocol.max_seconds)
            except FantasyTalkingError as error:
                left_out.append(LeftOut(case.name, "", str(error)))
                continue
            finally:
                advance()
            if again:
                cut.append(case.name)
            good.append(case)
    if cut:
        progress.note(
            f"References of {len(cut)} cases are cut from their files and encoded again at crf {REFERENCE_CRF}: {', '.join(cut)}."
        )
    return tuple(good)


def _plan(
    manifest: Manifest,
    cases: Sequence[Case],
    donors: Mapping[str, Case],
    bad: Mapping[str, str],
    data: Path,
    output: Path,
    progress: Progress,
    left_out: list[LeftOut],
) -> list[VideoJob]:
    """Plan all videos, those of one model together."""
    with progress.stage("hashing"):
        models = {name: find_model(name) for name in dict.fromkeys(method.model for method in manifest.methods)}
    jobs = []
    for method in sorted(manifest.methods, key=lambda m: list(models).index(m.model)):
        for case in cases:
            donor = donors.get(case.name) if method.speech == "other" else None
            if method.speech == "other" and donor is None:
                reason = "No case of another identity has as much speech."
                left_out.append(LeftOut(case.name, method.name, reason))
            elif donor is not None and donor.speech.file in bad:
                left_out.append(LeftOut(case.name, method.name, f"Its speech: {bad[donor.speech.file]}"))
            else:
                jobs.append(plan_job(method, case, donor, models[method.model], data, output))
    return jobs


def _generate(
    jobs: Sequence[VideoJob],
    places: Sequence[str],
    options: BenchmarkOptions,
    progress: Progress,
    left_out: list[LeftOut],
) -> tuple[int, int]:
    """Generate missing videos; returns how many were generated and how many existed."""
    missing = [job for job in jobs if not is_made(job)]
    kept = len(jobs) - len(missing)
    if kept:
        progress.note(f"{kept} of {len(jobs)} videos exist already.")
    if not options.generate:
        for job in missing:
            reason = "There is no video generated as the manifest says; run without --score-only."
            left_out.append(LeftOut(job.case.name, job.method.name, reason))
        return 0, kept
    if not missing:
        return 0, kept
    with progress.stage("generating", len(missing)) as advance:
        failures = run_jobs(missing, places, advance)
    left_out += [LeftOut(f.job.case.name, f.job.method.name, f.reason) for f in failures]
    return len(missing) - len(failures), kept


def _report_left_out(left_out: Sequence[LeftOut], output: Path, progress: Progress) -> None:
    for item in left_out:
        progress.note(f"Left out: {item.case}{f' ({item.method})' if item.method else ''}: {item.reason}")
    record = {"left_out": [asdict(item) for item in left_out]}
    write_json(output / "left_out.json", record, indent=1, ascii_only=False)


def _score(
    manifest: Manifest,
    jobs: Sequence[VideoJob],
    left_out: Sequence[LeftOut],
    output: Path,
    options: BenchmarkOptions,
    progress: Progress,
) -> Report:
    """Score exactly the videos of this run, and none that other choices of cases and methods left in the folder."""
    lost = {(item.method, item.case) for item in left_out}
    good = [job for job in jobs if (job.method.name, job.case.name) not in lost]
    if not good:
        raise InputError(f"There is no video of '{manifest.name}' to score; the first reason: {left_out[0].reason}")
    shutil.rmtree(output / "scored", ignore_errors=True)
    for job in good:
        link_file(job.video, output / "scored" / job.method.name / job.video.name)
    scored = {job.method.name for job in good}
    folders = {m.name: output / "scored" / m.name for m in manifest.methods if m.name in scored}
    weights = {job.method.name: str(job.decides["weights"])[:12] for job in jobs}
    notes = {}
    for method in manifest.methods:
        settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in method.settings.items())
        parts = [method.note, f"model {method.model}", f"weights {weights.get(method.name, 'unknown')}", settings]
        notes[method.name] = "; ".join(part for part in parts if part)
    return evaluate(folders, output / "references", output / "report", options.scoring, progress, notes)
