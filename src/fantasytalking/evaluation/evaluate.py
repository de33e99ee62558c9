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
from typing import Any, Literal

from fantasytalking.errors import FantasyTalkingError, InputError, OutputError
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.evaluation.evaluation_options import EvaluationOptions, check_folders
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.measure import MeasuredClip
from fantasytalking.evaluation.measuring_workers import measure_clips
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.registry import build, choose
from fantasytalking.evaluation.pairing import (
    GROUND_TRUTH,
    NOTES,
    SHUFFLED,
    STILL,
    Task,
    clips_of_all_methods,
    pair_clips,
    shuffled_sounds,
)
from fantasytalking.evaluation.protocol import Protocol, software_versions
from fantasytalking.evaluation.report.write_report import embedded_count, write_report
from fantasytalking.evaluation.results import ClipResult, Method, Problem, Report, Summary
from fantasytalking.evaluation.row_frames import (
    clip_problems,
    common_frames,
    encoding_warnings,
    footage_warnings,
    length_warnings,
    row_encodings,
)
from fantasytalking.evaluation.statistics.intervals import FEWEST
from fantasytalking.evaluation.summary import summarise
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.progress import Progress, default_progress
from fantasytalking.system.folder_owner import owned
from fantasytalking.system.machine import choose_device, machine

__all__ = ["STORE", "EvaluationOptions", "evaluate"]

STORE = "measurements"
"""Subfolder of the report's folder for the measurements."""


def evaluate(
    methods: Mapping[str, Path],
    reference: Path,
    output: Path,
    options: EvaluationOptions,
    progress: Progress | None = None,
    notes: Mapping[str, str] | None = None,
) -> Report:
    """Measure every clip of every method against the real one of the same name, and write the report.

    A clip counts where every method has a video of it, up to the end of the shortest; the warnings tell what was left out or cut.

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
        SettingsError: There is no such device.
        CheckpointError, MissingDependencyError: `backend` is `standard` and weights or a package are missing.
        OutputError: The folder cannot be written, or another process evaluates into it.
        ResourceError: A process was killed.
    """
    started, progress, computer = time.monotonic(), progress or default_progress(), machine()
    check_folders(methods, reference, output)
    device = str(choose_device(options.device))
    choices, proxies = choose(options.metrics, options.backend, device)
    # Loaded now, so that a network that cannot be loaded ends the run before anything is measured.
    metrics = [build(choice) for choice in choices]
    columns = tuple(column for metric in metrics for column in metric.columns)
    with owned(output, "evaluating into", tell=progress.note):
        plan = _plan(methods, reference, options)
        workers, store = _workers(options, device), _make_store(output)
        measured = measure_clips(plan.tasks, choices, metrics, options.protocol, store, workers, progress)
        found, results, problems = _collect(measured, reference, options.protocol)
        with progress.stage("comparing"):
            summary = summarise(found, columns, options.protocol)
        rows = _rows(methods, results, summary.cells, notes or {}, row_encodings(measured))
        common = common_frames(measured, rows, summary.apart)
        report = Report(
            **_circumstances(options, reference),
            machine=computer,
            columns=columns,
            methods=rows,
            comparisons=tuple(summary.comparisons),
            problems=(*plan.problems, *problems),
            warnings=tuple(_warnings(plan, measured, rows, common, options.protocol, [*proxies, *_remarks(metrics)])),
            minutes=round((time.monotonic() - started) / 60, 2),
            common=common,
        )
        with progress.stage("writing", embedded_count(report) if options.media else 1) as advance:
            write_report(report, output, options.media, advance)
    return report


def _workers(options: EvaluationOptions, device: str) -> int:
    return options.workers or (min(os.cpu_count() or 1, 8) if device == "cpu" else 1)


def _circumstances(options: EvaluationOptions, reference: Path) -> dict[str, Any]:
    """Fields of the report that do not depend on what was measured."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "protocol": options.protocol.to_dict(),
        "software": software_versions(),
        "reference": str(reference),
    }


def _warnings(
    plan: _Plan,
    measured: Sequence[MeasuredClip],
    rows: Sequence[Method],
    common: CommonFrames,
    protocol: Protocol,
    remarks: Sequence[str],
) -> list[str]:
    """Sentences to read before quoting a number, those about the frames first."""
    lacking = plan.lacking({row.name: row.clips for row in rows})
    return [
        *length_warnings(measured, rows, common, protocol, lacking, len(plan.names)),
        *footage_warnings(measured, protocol),
        *encoding_warnings(rows),
        *remarks,
        *_sample_warnings(rows, common, protocol),
    ]


def _remarks(metrics: Sequence[Metric]) -> list[str]:
    return list(dict.fromkeys(metric.remark for metric in metrics if metric.remark))


def _rows(
    methods: Mapping[str, Path],
    results: Mapping[str, Mapping[str, ClipResult]],
    cells: Mapping[str, Mapping[str, Summary]],
    notes: Mapping[str, str],
    encodings: Mapping[str, str],
) -> tuple[Method, ...]:
    """Rows of the table: ground truth, methods (including those without any measured clip), baselines."""
    remarks = {**NOTES, **notes}
    order = [name for name in (GROUND_TRUTH, *methods, STILL, SHUFFLED) if name in results or name in methods]
    return tuple(
        Method(
            name,
            _kind(name),
            remarks.get(name, ""),
            results.get(name, {}),
            cells.get(name, {}),
            encodings.get(name, ""),
        )
        for name in order
    )


@dataclass(frozen=True)
class _Plan:
    """Clips to measure.

    Attributes:
        tasks: The clips of all rows, those of the baselines included.
        problems: Files without a counterpart.
        names: Names of all real clips.
        made: Method -> names of the real clips of which it has a file.
    """

    tasks: list[Task]
    problems: list[Problem]
    names: list[str]
    made: dict[str, set[str]]

    def lacking(self, results: Mapping[str, Mapping[str, ClipResult]]) -> dict[str, list[str]]:
        """Rows -> names of the real clips of which they have no file, or none that could be measured.

        A real clip that cannot be measured is named for the ground truth alone, and of a method without any result only what it has no
        file of.
        """
        planned = {task.clip for task in self.tasks}
        unreadable = [name for name in self.names if name in planned and name not in results.get(GROUND_TRUTH, {})]
        lacking = {GROUND_TRUTH: unreadable}
        for method, made in self.made.items():
            found = results.get(method)
            failed = {name for name in planned if name not in found} if found else set()
            lacking[method] = [n for n in self.names if n not in unreadable and (n not in made or n in failed)]
        return {row: clips for row, clips in lacking.items() if clips}


def _plan(methods: Mapping[str, Path], reference: Path, options: EvaluationOptions) -> _Plan:
    """Clips to measure, including those of the baselines, and the files without a counterpart."""
    tasks, problems = pair_clips(methods, reference)
    names = [task.clip for task in tasks if task.method == GROUND_TRUTH]
    made = {method: {task.clip for task in tasks if task.method == method} for method in methods}
    counted = clips_of_all_methods(tasks)
    baselines, without = _baseline_tasks(counted, options.baselines, options.protocol.max_seconds)
    return _Plan([*counted, *baselines], [*problems, *without], names, made)


def _make_store(output: Path) -> Path:
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
    for name in dict.fromkeys(names):
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
    measured: Sequence[MeasuredClip], reference: Path, protocol: Protocol
) -> tuple[dict[str, dict[str, Measurement]], dict[str, dict[str, ClipResult]], list[Problem]]:
    """Merge the measurements of the metrics, by method and clip; whatever could not be measured becomes a problem."""
    found: dict[str, dict[str, Measurement]] = {}
    results: dict[str, dict[str, ClipResult]] = {}
    problems = []
    for one in measured:
        task, reasons = one.task, [one.problem] if one.problem else clip_problems(one, protocol)
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
        raise InputError(f"No real clip of '{reference}' could be measured ({first}); give other clips.")
    return found, results, problems


def _sample_warnings(rows: Sequence[Method], common: CommonFrames, protocol: Protocol) -> list[str]:
    """Warnings about the whole table; those about single cells are in the cells."""
    clips = len(common.clips) if common.same else max((len(row.clips) for row in rows), default=0)
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
