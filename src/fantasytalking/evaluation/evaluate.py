"""Evaluation of folders of videos, with a report as the result.

An interrupted evaluation continues where it stopped; a file that cannot be used is named in the report.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fantasytalking.errors import FantasyTalkingError, OutputError, SettingsError
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.measure import MeasuredClip
from fantasytalking.evaluation.measuring_workers import measure_clips
from fantasytalking.evaluation.metrics.metric import Measurement
from fantasytalking.evaluation.metrics.registry import ALL, Backend, build, choose
from fantasytalking.evaluation.pairing import (
    GROUND_TRUTH,
    NOTES,
    SHUFFLED,
    STILL,
    Task,
    pair_clips,
    shuffled_sounds,
)
from fantasytalking.evaluation.protocol import PROTOCOLS, Protocol, software_versions
from fantasytalking.evaluation.report.write_report import write_report
from fantasytalking.evaluation.results import ClipResult, Method, Problem, Report, Summary
from fantasytalking.evaluation.statistics.intervals import FEWEST
from fantasytalking.evaluation.summary import summarise
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.progress import Progress, default_progress
from fantasytalking.system.machine import choose_device, machine

__all__ = ["BASELINES", "STORE", "EvaluationOptions", "evaluate"]

BASELINES = {"still": STILL, "shuffled": SHUFFLED}
STORE = "measurements"
"""Subfolder of the report's folder for the measurements."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Choices of an evaluation.

    Attributes:
        protocol: See `protocol.Protocol`.
        metrics: Keys of `registry.METRICS`.
        backend: `auto` takes the standard network where its weights are installed and a labelled proxy elsewhere.
        baselines: `still`: the real clip's first frame, repeated; `shuffled`: the real clips with one another's sound.
        workers: Number of processes; None takes one per core, at most 8, and one on an accelerator.
        device: Device of the standard networks, `auto` or a torch device.
        command: The command, for the record.
        media: Whether the page contains the best and worst clips.
    """

    protocol: Protocol = PROTOCOLS["standard"]
    metrics: tuple[str, ...] = ALL
    backend: Backend = "auto"
    baselines: tuple[str, ...] = ("still", "shuffled")
    workers: int | None = None
    device: str = "auto"
    command: str = ""
    media: bool = True


def evaluate(
    methods: Mapping[str, Path],
    reference: Path,
    output: Path,
    options: EvaluationOptions,
    progress: Progress | None = None,
    notes: Mapping[str, str] | None = None,
) -> Report:
    """Measure every clip of every method against the real one of the same name, and write the report.

    Args:
        methods: Name in the table -> folder of generated videos; may be empty, for the baselines alone.
        reference: Folder of the real clips.
        output: Folder of the report; measurements are stored in it and reused.
        options: Protocol, metrics and where they run.
        progress: Display of the progress; None takes the default one.
        notes: Name in the table -> how the method's videos were made.

    Returns:
        The report, which is also in `output` as `report.json`, `report.html`, `report.csv` and `clips.csv`.

    Raises:
        InputError: A folder cannot be used, or no clip could be measured.
        SettingsError: A metric or baseline is unknown.
        CheckpointError, MissingDependencyError: `backend` is `standard` and weights or a package are missing.
        OutputError: The folder cannot be written.
        ResourceError: A process was killed.
    """
    started, progress, computer = time.monotonic(), progress or default_progress(), machine()
    device = str(choose_device(options.device))
    workers = _workers(options, device)
    choices, proxies = choose(options.metrics, options.backend, device)
    # Loaded before anything is measured, so that a network that cannot be loaded ends the run here.
    metrics = [build(choice) for choice in choices]
    columns = tuple(column for metric in metrics for column in metric.columns)
    tasks, problems = _plan(methods, reference, options)
    store = _make_store(output, {"reference": [reference], "generated": list(methods.values())})
    measured = measure_clips(tasks, choices, metrics, options.protocol, store, workers, progress)
    found, results, more = _collect(measured, reference)
    with progress.stage("comparing"):
        summary = summarise(found, columns, options.protocol)
    rows = _rows(methods, results, summary.cells, notes or {})
    report = Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=options.command,
        protocol=options.protocol.to_dict(),
        software=software_versions(),
        machine=computer,
        columns=columns,
        methods=rows,
        comparisons=tuple(summary.comparisons),
        problems=(*problems, *more),
        warnings=(*proxies, *_sample_warnings(rows, options.protocol)),
        reference=str(reference),
        minutes=round((time.monotonic() - started) / 60, 2),
    )
    with progress.stage("writing"):
        write_report(report, output, options.media)
    return report


def _rows(
    methods: Mapping[str, Path],
    results: Mapping[str, Mapping[str, ClipResult]],
    cells: Mapping[str, Mapping[str, Summary]],
    notes: Mapping[str, str],
) -> tuple[Method, ...]:
    """Rows of the table: ground truth, methods (including those without any measured clip), baselines."""
    remarks = {**NOTES, **notes}
    order = [name for name in (GROUND_TRUTH, *methods, STILL, SHUFFLED) if name in results or name in methods]
    return tuple(
        Method(name, _kind(name), remarks.get(name, ""), results.get(name, {}), cells.get(name, {})) for name in order
    )


def _workers(options: EvaluationOptions, device: str) -> int:
    if options.workers is not None and options.workers < 1:
        raise SettingsError(f"workers must be at least 1, but {options.workers} was given.")
    return options.workers or (min(os.cpu_count() or 1, 8) if device == "cpu" else 1)


def _plan(methods: Mapping[str, Path], reference: Path, options: EvaluationOptions) -> tuple[list[Task], list[Problem]]:
    """Clips to measure, including those of the baselines, and the files without a counterpart."""
    tasks, problems = pair_clips(methods, reference)
    baselines, without = _baseline_tasks(tasks, options.baselines, options.protocol.max_seconds)
    return [*tasks, *baselines], [*problems, *without]


def _make_store(output: Path, inputs: Mapping[str, Sequence[Path]]) -> Path:
    """Make the folder of the measurements, which must not be among the clips: a report there would be evaluated with them next time."""
    for kind, folders in inputs.items():
        if output.resolve() in [folder.resolve() for folder in folders]:
            raise OutputError(
                f"The report would be written among the {kind} clips in '{output}'; give another --output."
            )
    store = output / STORE
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The report folder '{output}' cannot be made ({error.strerror}); choose another one."
        ) from error
    return store


def _kind(name: str) -> Literal["ground truth", "baseline", "method"]:
    # Real frames with another sound do not compete for the best value, so they count as ground truth.
    return "ground truth" if name in (GROUND_TRUTH, SHUFFLED) else "baseline" if name == STILL else "method"


def _baseline_tasks(
    tasks: Sequence[Task], names: Sequence[str], max_seconds: float
) -> tuple[list[Task], list[Problem]]:
    real = {task.clip: task.reference for task in tasks if task.method == GROUND_TRUTH}
    found: list[Task] = []
    problems: list[Problem] = []
    for name in names:
        if name not in BASELINES:
            raise SettingsError(f"There is no baseline '{name}'; give {' or '.join(BASELINES)}, or none.")
        if name == "still":
            found += [Task(STILL, clip, path, path, path, still=True) for clip, path in real.items()]
            continue
        sounds = {}
        for clip, path in real.items():
            try:
                sound = load_sound(path, min(probe_video(path).seconds, max_seconds))
            except FantasyTalkingError:
                continue  # reported when the clip itself is measured
            if sound is not None:
                sounds[clip] = sound
        lent = shuffled_sounds(sounds)
        found += [Task(SHUFFLED, clip, real[clip], real[clip], real[other]) for clip, other in lent.items()]
        problems += [
            Problem(SHUFFLED, clip, str(real[clip]), "No other real clip has another sound to lend it.")
            for clip in sounds
            if clip not in lent
        ]
    return found, problems


def _collect(
    measured: Sequence[MeasuredClip], reference: Path
) -> tuple[dict[str, dict[str, Measurement]], dict[str, dict[str, ClipResult]], list[Problem]]:
    """Merge the measurements of the metrics, by method and clip; whatever could not be measured becomes a problem."""
    found: dict[str, dict[str, Measurement]] = {}
    results: dict[str, dict[str, ClipResult]] = {}
    problems = []
    for one in measured:
        task, reasons = one.task, list(one.problems)
        told: dict[str, list[str]] = {}
        for metric, got in one.measurements.items():
            for reason in [got] if isinstance(got, str) else got.notes:
                told.setdefault(reason, []).append(metric)
        reasons += [f"{', '.join(metrics)}: {reason}" for reason, metrics in told.items()]
        problems += [Problem(task.method, task.clip, str(task.video), reason) for reason in reasons]
        good = [got for got in one.measurements.values() if isinstance(got, Measurement)]
        if not good:
            continue
        merged = Measurement(
            {k: v for m in good for k, v in m.values.items()},
            {k: v for m in good for k, v in m.features.items()},
            {k: v for m in good for k, v in m.curves.items()},
        )
        found.setdefault(task.method, {})[task.clip] = merged
        generated = "" if task.still else str(task.video)
        results.setdefault(task.method, {})[task.clip] = ClipResult(
            generated, str(task.reference), one.frames, dict(merged.values), dict(merged.curves)
        )
    if not found.get(GROUND_TRUTH):
        first = "; ".join(f"{p.clip}: {p.reason}" for p in problems[:3])
        raise SettingsError(f"No real clip of '{reference}' could be measured ({first}); give other clips.")
    return found, results, problems


def _sample_warnings(rows: Sequence[Method], protocol: Protocol) -> list[str]:
    """Warnings about the whole table; those about single cells are in the cells."""
    clips = max((len(row.clips) for row in rows), default=0)
    found = []
    if clips < protocol.min_clips:
        few = "1 clip is" if clips == 1 else f"{clips} clips are"
        found.append(
            f"{few} few: intervals of fewer than {protocol.min_clips} are rough, and fewer than {FEWEST} have none."
        )
    if any("raise the distance" in cell.warning for row in rows for cell in row.summary.values()):
        found.append(
            f"Frechet distances are of fewer than {protocol.min_images} images or {protocol.min_videos} videos, and frames of one clip are "
            "alike: compare methods on these clips, not with numbers from elsewhere."
        )
    return found
