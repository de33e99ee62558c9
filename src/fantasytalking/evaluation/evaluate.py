"""An evaluation: folders of videos in, a report out.

Interrupted, it goes on where it was; a file that cannot be used is named in the report.
"""

from __future__ import annotations

import concurrent.futures.process
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fantasytalking.errors import FantasyTalkingError, OutputError, ResourceError, SettingsError
from fantasytalking.evaluation.footage import load_sound
from fantasytalking.evaluation.measure import Job, Outcome, measure_job
from fantasytalking.evaluation.metrics.metric import Measurement
from fantasytalking.evaluation.metrics.registry import ALL, Backend, Choice, build, choose
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
from fantasytalking.evaluation.results import ClipResult, Column, Method, Problem, Report
from fantasytalking.evaluation.statistics.intervals import FEWEST
from fantasytalking.evaluation.summary import summarise
from fantasytalking.media.video import probe_video
from fantasytalking.pipeline.load_pipeline import choose_device
from fantasytalking.pipeline.progress import Progress, default_progress
from fantasytalking.system.machine import machine
from fantasytalking.system.processes import spawning, start_worker
from fantasytalking.system.processes import threads as bounded_threads

__all__ = ["BASELINES", "Options", "evaluate"]

BASELINES = {"still": STILL, "shuffled": SHUFFLED}
STORE = "measurements"


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        protocol: see `protocol.Protocol`.
        metrics: names of `catalogue.METRICS`.
        backend: `auto` takes the standard network where its weights are at hand and a labelled proxy elsewhere.
        baselines: `still`: the real clip's first frame, repeated; `shuffled`: the real clips with one another's sound.
        workers: processes; None: one a core, at most 8, and one on an accelerator.
        device: of the standard networks, `auto` or a torch device.
        command: for the record.
        media: whether the page holds the best and worst clips.
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
    options: Options,
    progress: Progress | None = None,
    notes: Mapping[str, str] | None = None,
) -> Report:
    """Measure every clip of every method against the real one of the same name, and write the report.

    Args:
        methods: name in the table -> folder of generated videos; may be empty, for the baselines alone.
        reference: folder of the real clips.
        output: folder of the report; measurements are kept in it and used again.
        options: how.
        progress: who shows how far it is.
        notes: name in the table -> how it was made.

    Returns:
        The report, which is also in `output` as `report.json`, `report.html`, `report.csv` and `clips.csv`.

    Raises:
        InputError: a folder cannot be used, or no clip could be measured.
        SettingsError: an unknown metric or baseline.
        CheckpointError, MissingDependencyError: `backend` is `standard` and something is not there.
        OutputError: the folder cannot be written.
        ResourceError: a process was ended from outside.
    """
    if options.workers is not None and options.workers < 1:
        raise SettingsError(f"workers must be at least 1, but {options.workers} was given.")
    started, progress = time.monotonic(), progress or default_progress()
    record = machine()
    device = str(choose_device(options.device))
    choices, proxies = choose(options.metrics, options.backend, device)
    # Before anything is measured: a network that cannot be loaded ends the run here.
    columns = [column for choice in choices for column in build(choice).columns]
    tasks, problems = pair_clips(methods, reference)
    baselines, without = _baseline_tasks(tasks, options.baselines, options.protocol.max_seconds)
    tasks, problems = [*tasks, *baselines], [*problems, *without]
    for kind, folder in [("reference", reference), *(("generated", folder) for folder in methods.values())]:
        if output.resolve() == folder.resolve():
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
    outcomes = _measure_all(tasks, tuple(choices), options, device, store, progress)
    found, results, more = _collect(outcomes, columns)
    if not found.get(GROUND_TRUTH):
        reasons = "; ".join(f"{p.clip}: {p.reason}" for p in more[:3])
        raise SettingsError(f"No real clip of '{reference}' could be measured ({reasons}); give other clips.")
    with progress.stage("comparing"):
        summary = summarise(found, columns, options.protocol)
    told = {**NOTES, **(notes or {})}
    rows = [
        Method(name, _kind(name), told.get(name, ""), results.get(name, {}), summary.cells.get(name, {}))
        for name in _order(methods, found)
    ]
    report = Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=options.command,
        protocol=options.protocol.to_dict(),
        software=software_versions(),
        machine=record,
        columns=tuple(columns),
        methods=tuple(rows),
        comparisons=tuple(summary.comparisons),
        problems=(*problems, *more),
        warnings=tuple([*proxies, *_sample_warnings(rows, options.protocol)]),
        reference=str(reference),
        minutes=round((time.monotonic() - started) / 60, 2),
    )
    from fantasytalking.evaluation.report.write_report import write_report

    with progress.stage("writing"):
        write_report(report, output, options.media)
    return report


def _kind(name: str) -> Literal["ground truth", "baseline", "method"]:
    # The real pictures under another sound do not compete for the best value either.
    return "ground truth" if name in (GROUND_TRUTH, SHUFFLED) else "baseline" if name == STILL else "method"


def _order(methods: Mapping[str, Path], found: Mapping[str, object]) -> list[str]:
    wanted = [GROUND_TRUTH, *methods, STILL, SHUFFLED]
    return [name for name in wanted if name in found or name in methods]


def _baseline_tasks(
    tasks: Sequence[Task], names: Sequence[str], max_seconds: float
) -> tuple[list[Task], list[Problem]]:
    real = {task.clip: task.reference for task in tasks if task.method == GROUND_TRUTH}
    made: list[Task] = []
    problems: list[Problem] = []
    for name in names:
        if name not in BASELINES:
            raise SettingsError(f"There is no baseline '{name}'; give {' or '.join(BASELINES)}, or none.")
        if name == "still":
            made += [Task(STILL, clip, path, path, path, still=True) for clip, path in real.items()]
            continue
        sounds = {}
        for clip, path in real.items():
            try:
                sound = load_sound(path, min(probe_video(path).seconds, max_seconds))
            except FantasyTalkingError:
                continue  # named when its own turn comes
            if sound is not None:
                sounds[clip] = sound
        lent = shuffled_sounds(sounds)
        made += [Task(SHUFFLED, clip, real[clip], real[clip], real[other]) for clip, other in lent.items()]
        problems += [
            Problem(SHUFFLED, clip, str(real[clip]), "No other real clip has another sound to lend it.")
            for clip in sounds
            if clip not in lent
        ]
    return made, problems


def _measure_all(
    tasks: Sequence[Task],
    choices: tuple[Choice, ...],
    options: Options,
    device: str,
    store: Path,
    progress: Progress,
) -> list[Outcome]:
    """All jobs, clip by clip: a worker that has a clip's reference in memory measures all methods against it."""
    by_clip: dict[str, list[Job]] = {}
    for task in tasks:
        by_clip.setdefault(task.clip, []).append(Job(task, choices, options.protocol, store))
    # The longest first, so that none of them is left alone at the end.
    groups = sorted(by_clip.values(), key=lambda jobs: -_size(jobs[0].task.reference))
    cores = os.cpu_count() or 1
    workers = options.workers or (min(cores, 8) if device == "cpu" else 1)
    outcomes: list[Outcome] = []
    with progress.stage("measuring", len(tasks)) as advance:
        for group in _run(groups, min(workers, len(groups)), max(1, cores // workers)):
            outcomes += group
            for _ in group:
                advance()
    order = {(task.method, task.clip): place for place, task in enumerate(tasks)}
    return sorted(outcomes, key=lambda o: order[o.task.method, o.task.clip])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _run(groups: Sequence[Sequence[Job]], workers: int, threads: int) -> Iterator[list[Outcome]]:
    if workers == 1:
        with bounded_threads(threads):
            yield from map(_measure_group, groups)
        return
    others = multiprocessing.active_children()
    with concurrent.futures.ProcessPoolExecutor(workers, spawning(), start_worker, (threads,)) as pool:
        pending = [pool.submit(_measure_group, group) for group in groups]
        try:
            for done in concurrent.futures.as_completed(pending):
                yield done.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ResourceError(
                "A process that measured was ended from outside, perhaps for lack of memory; give the same command again with fewer "
                "--workers, what was measured is kept."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Interrupted: leaving the pool would wait for the clips at hand.
            for process in set(multiprocessing.active_children()) - set(others):
                process.terminate()
            raise


def _measure_group(jobs: Sequence[Job]) -> list[Outcome]:
    return [measure_job(job) for job in jobs]


def _collect(
    outcomes: Sequence[Outcome], columns: Sequence[Column]
) -> tuple[dict[str, dict[str, Measurement]], dict[str, dict[str, ClipResult]], list[Problem]]:
    """Merge what the metrics found, by method and clip; what they did not find is a problem with a name."""
    found: dict[str, dict[str, Measurement]] = {}
    results: dict[str, dict[str, ClipResult]] = {}
    problems = []
    for outcome in outcomes:
        task, reasons = outcome.task, list(outcome.problems)
        told: dict[str, list[str]] = {}
        for metric, got in outcome.measurements.items():
            for reason in [got] if isinstance(got, str) else got.notes:
                told.setdefault(reason, []).append(metric)
        reasons += [f"{', '.join(metrics)}: {reason}" for reason, metrics in told.items()]
        problems += [Problem(task.method, task.clip, str(task.video), reason) for reason in reasons]
        good = [got for got in outcome.measurements.values() if isinstance(got, Measurement)]
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
            generated, str(task.reference), outcome.frames, dict(merged.values), dict(merged.curves)
        )
    return found, results, problems


def _sample_warnings(rows: Sequence[Method], protocol: Protocol) -> list[str]:
    """What holds for the whole table, once; the cells say the rest."""
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
