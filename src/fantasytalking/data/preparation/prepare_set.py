"""From videos to a prepared set: list the videos, run the phases, then write list of clips, report and manifest."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fantasytalking.data.preparation.early_checks import check_request
from fantasytalking.data.preparation.executors import Executor, InProcessExecutor, ray_executor
from fantasytalking.data.preparation.folder_search import FolderSearch
from fantasytalking.data.preparation.phase_progress import PhaseProgress
from fantasytalking.data.preparation.preparation_phases import PreparationPhases
from fantasytalking.data.preparation.preparation_settings import PreparationSettings, RunSettings
from fantasytalking.data.preparation.set_manifest import (
    IN_VALIDATION,
    build_manifest,
    describe_model,
    leaks,
    write_clips,
)
from fantasytalking.data.preparation.set_report import PAGE, write_report
from fantasytalking.data.preparation.video_sources import find_videos
from fantasytalking.data.preparation.work_folder import Plan, open_work_folder
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.data.set_records import CLIPS, MANIFEST, SCHEMA, read_manifest
from fantasytalking.errors import InputError, OutputError
from fantasytalking.pipeline.model_names import DEPRECATED_NAMES
from fantasytalking.system.json import read_json, write_strict_json

__all__ = ["prepare"]


def prepare(
    places: Sequence[Path],
    output: Path,
    settings: PreparationSettings,
    run_settings: RunSettings,
    progress: PhaseProgress | None = None,
) -> PreparedSet | None:
    """Prepare videos, or resume a preparation.

    Args:
        places: Videos, folders, catalogues.
        output: Folder of the set.
        settings: What becomes a clip.
        run_settings: How the preparation is executed.
        progress: Receives the progress and notes; None shows notes only.

    Returns:
        The finished set, verified; None if no clip was kept (the report says why).

    Raises:
        InputError: There is nothing to prepare, or the model or the Ray cluster cannot be used.
        OutputError: The folder cannot be used.
        MissingDependencyError: A package of the extra `prepare` is not installed.
    """
    started, progress = time.monotonic(), progress or PhaseProgress()
    output = output.expanduser()
    check_request(places, output, settings, run_settings)
    model, settings = _known_model(settings)
    search = FolderSearch()
    videos = find_videos(places, run_settings.identity, run_settings.val_share, settings.seed, search)
    for told in search.sentences():
        progress.note(told)
    plan = Plan(
        SCHEMA,
        {**settings.as_dict(), "model_weights": model.get("weights", {})},
        {"clips_per_shard": run_settings.clips_per_shard},
        [video.as_dict() for video in videos],
    )
    if _is_left_alone(output, plan, run_settings.overwrite, progress) and _is_whole(output, plan, progress):
        return _finished_set(output, progress)
    with open_work_folder(output, plan, run_settings.overwrite, progress.note) as work:
        arguments = (settings.as_dict(), str(output.absolute()), work.digest, secrets.token_hex(8))
        phases = PreparationPhases(work, videos, run_settings.clips_per_shard, arguments, progress)
        worked = phases.run(lambda: _executor(run_settings))
        if not worked and (output / PAGE).is_file() and _is_whole(output, plan, progress):
            return _finished_set(output, progress)
        work.remove_partial_files()
        rows, shards, clock = phases.results()
        _drop_leaks(rows)
        write_clips(output / CLIPS, rows)
        seconds = round(time.monotonic() - started, 1)
        how = {"workers": run_settings.workers, "address": run_settings.address, "seconds": seconds}
        manifest = build_manifest(plan, rows, shards, model, clock, output / CLIPS, how, search.passed_over)
        write_report(output, manifest, rows, {video.video.key: video for video in videos}, progress)
        write_strict_json(output / MANIFEST, manifest, indent=1)
    return PreparedSet.open(output) if manifest["totals"]["kept"] else None


def _drop_leaks(rows: Sequence[dict[str, Any]]) -> None:
    """Take training clips of validation people out of the list; they stay in their shards."""
    by_key = {row["key"]: row for row in rows}
    for key, cosine in leaks(rows).items():
        by_key[key] |= {
            "kept": False,
            "reason": IN_VALIDATION,
            "detail": f"The face is that of a validation clip (cosine {cosine:.2f}), so the clip is not trained on.",
        }


def _known_model(settings: PreparationSettings) -> tuple[dict[str, Any], PreparationSettings]:
    """Describe the model, under the name that it has today."""
    name = settings.model if Path(settings.model).is_dir() else DEPRECATED_NAMES.get(settings.model, settings.model)
    return describe_model(name, settings.latents), replace(settings, model=name)


def _is_left_alone(output: Path, plan: Plan, overwrite: bool, progress: PhaseProgress) -> bool:
    """Whether a finished set is only verified: its work folder is gone, or an older release made it, which is told."""
    finished = read_json(output / MANIFEST)
    if not isinstance(finished, dict) or (overwrite and _is_of_another_plan(plan, finished)):
        return False
    newer = plan.newer_settings(finished.get("plan", {}))
    if newer:
        progress.note(
            f"The set was made by an older release, which did not know {', '.join(newer)}; pass --overwrite to make it again."
        )
    return bool(newer) or read_json(output / "work" / "run.json") is None


def _is_of_another_plan(plan: Plan, manifest: dict[str, Any]) -> bool:
    stored = manifest.get("plan", {})
    return bool(plan.difference(stored) or plan.newer_settings(stored))


def _finished_set(output: Path, progress: PhaseProgress) -> PreparedSet | None:
    """Open a set that was finished before; None if no clip was kept."""
    progress.note("The set was finished before and is whole, so nothing is made again.")
    return PreparedSet.open(output) if read_manifest(output).totals.get("kept") else None


def _is_whole(output: Path, plan: Plan, progress: PhaseProgress) -> bool:
    """Whether a finished set can be used as it is; if not, a note says that it is damaged and has to be repaired.

    Raises:
        OutputError: It was prepared by another plan.
    """
    try:
        manifest = read_manifest(output)
        different = plan.difference(manifest.plan)
        if not different:
            if manifest.totals.get("kept"):
                PreparedSet.open(output).verify()
            return True
    except InputError as error:
        if (output / MANIFEST).is_file():
            progress.note(f"The set is repaired, as it is damaged: {str(error).partition('; ')[0]}.")
        return False
    raise OutputError(
        f"The set in '{output}' was prepared differently: {different}; choose another --output, or pass --overwrite to replace it."
    )


def _executor(run_settings: RunSettings) -> AbstractContextManager[Executor]:
    if run_settings.workers == 0:
        return nullcontext(InProcessExecutor())
    return ray_executor(run_settings.workers, run_settings.address, run_settings.gpus_per_worker)
