"""Measurement of all clips, in this process or by several workers."""

from __future__ import annotations

import concurrent.futures.process
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fantasytalking.errors import ResourceError
from fantasytalking.evaluation.measure import MeasuredClip, measure_clip
from fantasytalking.evaluation.metrics.metric import Metric
from fantasytalking.evaluation.metrics.registry import Choice, build
from fantasytalking.evaluation.pairing import Task
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.pipeline.progress import Progress
from fantasytalking.system.processes import spawning, start_worker
from fantasytalking.system.processes import threads as bounded_threads

__all__ = ["measure_clips"]


def measure_clips(
    tasks: Sequence[Task],
    choices: Sequence[Choice],
    metrics: list[Metric],
    protocol: Protocol,
    store: Path,
    workers: int,
    progress: Progress,
) -> list[MeasuredClip]:
    """Measure clip by clip; a worker measures all methods while the reference of a clip is in memory.

    Args:
        tasks: The clips of all methods.
        choices: The metrics, from which other processes load them.
        metrics: The same metrics, loaded; the list is emptied if other processes do the work.
        protocol: Protocol of the measurement.
        store: Folder of the measurements.
        workers: Number of processes; 1 measures in this one.
        progress: Display of the progress.

    Returns:
        Measurements of each task, in the order of the tasks.

    Raises:
        ResourceError: A process was killed.
    """
    by_clip: dict[str, list[Task]] = {}
    for task in tasks:
        by_clip.setdefault(task.clip, []).append(task)
    # Large files first, so that no worker is left with one at the end.
    groups = sorted(by_clip.values(), key=lambda group: -_size(group[0].reference))
    threads = max(1, (os.cpu_count() or 1) // workers)
    workers = min(workers, len(groups))
    measured: list[MeasuredClip] = []
    with progress.stage("measuring", len(tasks)) as advance:
        if workers == 1:
            done = _measure_here(groups, metrics, protocol, store, threads)
        else:
            # Each process loads its own metrics.
            metrics.clear()
            work = functools.partial(_measure_group, tuple(choices), protocol, store)
            done = _measure_in_processes(groups, work, workers, threads)
        for group in done:
            measured += group
            for _ in group:
                advance()
    order = {(task.method, task.clip): place for place, task in enumerate(tasks)}
    return sorted(measured, key=lambda one: order[one.task.method, one.task.clip])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _measure_here(
    groups: Sequence[Sequence[Task]], metrics: Sequence[Metric], protocol: Protocol, store: Path, threads: int
) -> Iterator[list[MeasuredClip]]:
    with bounded_threads(threads):
        for group in groups:
            yield measure_clip(group, metrics, protocol, store)


def _measure_in_processes(
    groups: Sequence[Sequence[Task]],
    work: Callable[[Sequence[Task]], list[MeasuredClip]],
    workers: int,
    threads: int,
) -> Iterator[list[MeasuredClip]]:
    others = multiprocessing.active_children()
    with concurrent.futures.ProcessPoolExecutor(workers, spawning(), start_worker, (threads,)) as pool:
        pending = [pool.submit(work, group) for group in groups]
        try:
            for done in concurrent.futures.as_completed(pending):
                yield done.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ResourceError(
                "A measuring process was killed, perhaps for lack of memory; run the same command again with fewer --workers; finished "
                "measurements are kept."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Interrupted: leaving the pool would wait for the clips in progress.
            for process in set(multiprocessing.active_children()) - set(others):
                process.terminate()
            raise


def _measure_group(
    choices: tuple[Choice, ...], protocol: Protocol, store: Path, tasks: Sequence[Task]
) -> list[MeasuredClip]:
    return measure_clip(tasks, _load_metrics(choices), protocol, store)


@functools.cache
def _load_metrics(choices: tuple[Choice, ...]) -> tuple[Metric, ...]:
    return tuple(build(choice) for choice in choices)
