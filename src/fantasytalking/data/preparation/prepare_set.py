"""From videos to a prepared set: list the videos, run the phases, then write list of clips, report and manifest."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from fantasytalking.data.preparation.executors import Executor, InProcessExecutor, ray_executor
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
from fantasytalking.pipeline.progress import show_note
from fantasytalking.system.json import read_json, read_json_object, write_strict_json

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
        progress: Receives the progress; None shows nothing.

    Returns:
        The finished set, verified; None if no clip was kept (the report says why).

    Raises:
        InputError: There is nothing to prepare, or the model or the Ray cluster cannot be used.
        OutputError: The folder cannot be used.
        MissingDependencyError: A package of the extra `prepare` is not installed.
    """
    started = time.monotonic()
    videos = find_videos(places, run_settings.identity, run_settings.val_share)
    model = describe_model(settings.model, settings.latents)
    plan = Plan(
        SCHEMA,
        {**settings.as_dict(), "model_weights": model.get("weights", {})},
        {"clips_per_shard": run_settings.clips_per_shard},
        [video.as_dict() for video in videos],
    )
    output = output.expanduser()
    if _has_no_work_folder(output):
        replaced = run_settings.overwrite and plan.difference(read_json_object(output / MANIFEST).get("plan", {}))
        if not replaced and (prepared := _open_finished(output, plan)) is not None:
            return prepared
    with open_work_folder(output, plan, run_settings.overwrite, show_note) as work:
        arguments = (settings.as_dict(), str(output.absolute()), plan.digest, secrets.token_hex(8))
        phases = PreparationPhases(work, videos, run_settings.clips_per_shard, arguments, progress or PhaseProgress())
        worked = phases.run(lambda: _executor(run_settings))
        finished = read_json(output / MANIFEST)
        if not worked and finished is not None and (output / PAGE).is_file():
            if not finished.get("totals", {}).get("kept"):
                return None
            if (prepared := _open_finished(output, plan)) is not None:
                return prepared
        work.remove_partial_files()
        rows, shards, clock = phases.results()
        _drop_leaks(rows)
        write_clips(output / CLIPS, rows)
        seconds = round(time.monotonic() - started, 1)
        how = {"workers": run_settings.workers, "address": run_settings.address, "seconds": seconds}
        manifest = build_manifest(plan, rows, shards, model, clock, output / CLIPS, how)
        write_report(output, manifest, rows, {video.video.key: video for video in videos})
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


def _has_no_work_folder(output: Path) -> bool:
    return (output / MANIFEST).is_file() and read_json(output / "work" / "run.json") is None


def _open_finished(output: Path, plan: Plan) -> PreparedSet | None:
    """Open a finished set and verify it; None, with a note, if it is damaged and has to be repaired.

    Raises:
        OutputError: It was prepared by another plan.
    """
    try:
        different = plan.difference(read_manifest(output).plan)
        if not different:
            prepared = PreparedSet.open(output)
            prepared.verify()
            return prepared
    except InputError as error:
        show_note(f"The set is repaired, as it is damaged: {str(error).partition('; ')[0]}.")
        return None
    raise OutputError(
        f"The set in '{output}' was prepared differently: {different}; choose another --output, or pass --overwrite to replace it."
    )


def _executor(run_settings: RunSettings) -> AbstractContextManager[Executor]:
    if run_settings.workers == 0:
        return nullcontext(InProcessExecutor())
    return ray_executor(run_settings.workers, run_settings.address, run_settings.gpus_per_worker)
