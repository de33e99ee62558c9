"""One try of one job: read, generate, end by compare-and-set."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fantasytalking.errors import FantasyTalkingError, SettingsError
from fantasytalking.generation.planned_run import LoadedModel, generate_planned
from fantasytalking.generation.request import Made, Request
from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions
from fantasytalking.serving.jobs.job_errors import error_of, without_paths
from fantasytalking.serving.jobs.job_files import JobFiles
from fantasytalking.serving.jobs.job_records import Job, JobError, Mode, VideoFacts
from fantasytalking.serving.jobs.job_store import JobStore
from fantasytalking.serving.jobs.read_inputs import read_job_inputs
from fantasytalking.serving.workers.preview_frames import Previews
from fantasytalking.serving.workers.try_progress import TryEnded, TryProgress
from fantasytalking.serving.workers.worker_options import LEASE_SECONDS, WorkerOptions
from fantasytalking.system.records import nearest_name

if TYPE_CHECKING:
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["HANDED_BACK", "LOST", "TIMED_OUT", "JobRunner"]

HANDED_BACK, LOST, TIMED_OUT = "handed back", "lost", "timed out"
"""Why a try ends early: the worker stops; the job was cancelled, deleted or given to another; it took too long."""

_BEAT = 0.5
"""Seconds between two reports to the database; progress is not told more often."""
_GRACE = 60.0
"""Seconds that a try has to notice that it is to end; after that, its process ends."""

_log = logging.getLogger("fantasytalking.serving.worker")


@dataclass(frozen=True)
class JobTarget:
    """Where the video of a try goes, with previews; a `Place` of `generate_planned`.

    Attributes:
        path: The file.
        mode: What is made.
        previews: Takes frames.
    """

    path: Path
    mode: Mode
    previews: Previews

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> Made:
        """Generate and write; the arguments are those of `Place.write`."""
        from fantasytalking.pipeline.talking_video import VideoOutput

        output = VideoOutput(self.path, True, threads, watch=self.previews.show)
        if self.mode == Mode.FOOTAGE:
            return pipeline.dub(*inputs, output, progress=progress, **settings)
        if self.mode == Mode.SPEAKERS:
            return pipeline.speak_together(*inputs, output, progress=progress, **settings)
        made: Made = pipeline(*inputs, progress=progress, output=output, **settings)
        return made


class JobRunner:
    """Runs tries in this process, with a model that stays loaded.

    Args:
        store: The jobs.
        files: Their files.
        options: How this worker runs.
    """

    def __init__(self, store: JobStore, files: JobFiles, options: WorkerOptions) -> None:
        self._store, self._files, self._options = store, files, options
        self._model: str | None = None
        self._loaded = LoadedModel()
        self._seconds: dict[tuple[str, Mode], Mapping[str, float]] = {}
        self._current: tuple[Job, TryProgress] | None = None

    def hand_back(self) -> None:
        """End the present try, from another thread; its job is queued again."""
        current = self._current
        if current is not None:
            current[1].stop = current[1].stop or HANDED_BACK

    def hand_back_now(self) -> None:
        """Queue the present job again, from another thread, before this process ends."""
        current = self._current
        if current is not None:
            self._store.hand_back(current[0])

    def run(self, job: Job) -> None:
        """Try a claimed job; whatever comes of it is in the database then."""
        kind = job.model, job.mode
        progress = TryProgress(self._seconds.get(kind))
        previews = Previews(self._files.preview(job.id))
        ended = threading.Event()
        reporter = threading.Thread(target=self._report, args=(job, progress, previews, ended), daemon=True)
        self._current = job, progress
        reporter.start()
        try:
            self._try(job, progress, previews)
            self._seconds[kind] = dict(progress.seconds)
        except TryEnded:
            self._end_early(job, str(progress.stop))
        except Exception as error:
            self._end_failed(job, error)
        finally:
            self._current = None
            ended.set()
            reporter.join()

    def _try(self, job: Job, progress: TryProgress, previews: Previews) -> None:
        self._files.take_over(job.id, job.fence)
        target, folder = self._files.video(job.id, job.fence), self._files.folder(job.id)
        options = self._options
        if job.model not in options.models:
            raise SettingsError(
                f"There is no model {job.model!r} here any more; {nearest_name(job.model, options.models, 'models')}"
            )
        model = options.models[job.model]
        inputs = read_job_inputs(job.mode, folder, job.inputs, model, job.given, progress)
        run = RunOptions(overwrite=True, device=options.device, dtype=options.dtype, threads=options.threads)
        memory = MemoryOptions(memory=options.memory, quantize=options.quantize)
        profile: Any = job.profile
        place = JobTarget(target, job.mode, previews)
        request = Request(model, *inputs, target, run, dict(job.given), memory, ProfileOptions(profile), place)
        made = generate_planned(request, progress, self._model_for(job))
        self._end_well(job, made.summary(), [*job.notes, *progress.notes])

    def _end_well(self, job: Job, summary: Mapping[str, Any], notes: list[str]) -> None:
        target, folder = self._files.video(job.id, job.fence), self._files.folder(job.id)
        _to_disk(target)
        names = [field.name for field in dataclasses.fields(VideoFacts) if field.name != "bytes"]
        facts = VideoFacts(**{name: summary[name] for name in names}, bytes=target.stat().st_size)
        # What is said about folders of finished segments is for people who see them.
        told = [without_paths(note, folder) for note in dict.fromkeys(notes) if ".unfinished" not in note]
        keep = self._options.keep_seconds
        if self._store.complete(job, facts, target.name, dict(summary["settings"]), told, keep):
            self._files.clean(job.id, keep=target.name)
        else:
            target.unlink(missing_ok=True)

    def _end_early(self, job: Job, reason: str) -> None:
        if reason == HANDED_BACK:
            self._store.hand_back(job)
        elif reason == TIMED_OUT:
            self._store.fail(job, _timed_out(self._options.try_seconds), self._options.keep_seconds)
            self._files.clean(job.id, keep=None)
        else:
            # Whoever took the job away may have given it to another, whose files have other names.
            self._files.video(job.id, job.fence).unlink(missing_ok=True)

    def _end_failed(self, job: Job, error: Exception) -> None:
        # What an error left in the model or in its memory is not known.
        self._model, self._loaded = None, LoadedModel()
        if not self._store.holds(job):
            # Its files were deleted, or moved to the claim that goes on with it.
            return
        told = error_of(error, self._files.folder(job.id))
        if not isinstance(error, FantasyTalkingError):
            _log.error("job %s: %s", job.id, type(error).__name__, exc_info=error)
        if self._store.fail(job, told, self._options.keep_seconds):
            self._files.clean(job.id, keep=None)

    def _model_for(self, job: Job) -> LoadedModel:
        if self._model != job.model:
            # It holds one model, and two may not fit.
            self._loaded.drop()
            self._loaded = LoadedModel()
            self._model = job.model
        return self._loaded

    def _report(self, job: Job, progress: TryProgress, previews: Previews, ended: threading.Event) -> None:
        """Tell the database how far the try is, and the try that it is to end."""
        until, stopped = time.monotonic() + self._options.try_seconds, None
        while not ended.wait(_BEAT):
            try:
                share, left = round(100 * progress.share, 1), progress.seconds_left
                holds = self._store.report(job, LEASE_SECONDS, share, progress.shown_stage, left, previews.number)
            except Exception as error:  # the database may be away for a moment, which is no reason to stop
                _log.warning("job %s: the database does not answer (%s)", job.id, type(error).__name__)
                continue
            if not holds:
                progress.stop = LOST
            elif time.monotonic() > until:
                progress.stop = progress.stop or TIMED_OUT
            if progress.stop is not None and stopped is None:
                stopped = time.monotonic()
            if stopped is not None and time.monotonic() > stopped + _GRACE:
                self._end_early(job, str(progress.stop))
                os._exit(1)


def _timed_out(seconds: float) -> JobError:
    return JobError(
        "timed_out",
        f"The video was not complete after {seconds:.0f} s, the longest time that this server gives a job; try a shorter speech, a smaller "
        "longest_side or fewer steps.",
    )


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
