"""Videos to a prepared set: find spans, deal them into shards, make the shards, sum up. Every part goes on where it was stopped."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, StageClock
from fantasytalking.data.preparation.executors import Crew, InProcess, on_ray
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.set_manifest import (
    IN_VALIDATION,
    build_manifest,
    describe_model,
    leaks,
    write_clips,
)
from fantasytalking.data.preparation.set_report import write_report
from fantasytalking.data.preparation.shard_writer import DealtShard, deal, write_json
from fantasytalking.data.preparation.video_sources import ListedVideo, find_videos
from fantasytalking.data.preparation.work_folder import Plan, WorkFolder, opened_work, read_json
from fantasytalking.data.preparation.worker_tasks import ShardTask, VideoTask, clip_row
from fantasytalking.data.prepared_set import CLIPS, MANIFEST, SCHEMA, PreparedSet
from fantasytalking.errors import OutputError, SettingsError
from fantasytalking.system.digests import file_sha256

__all__ = ["Counts", "Running", "Watcher", "prepare"]

PAGE = "report.html"
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Running:
    """How a preparation is run, beside `PreparationSettings`.

    Attributes:
        clips_per_shard: candidates of a shard.
        identity: whom a video shows that no catalogue names.
        val_share: share of such identities that becomes the split "val".
        workers: processes; 0 works in this one, without Ray; None means one a processor core.
        address: of a Ray cluster; None: this machine.
        gpus_per_worker: share of an accelerator that each takes.
        overwrite: whether a set made otherwise is deleted first.
    """

    clips_per_shard: int = 64
    identity: Literal["stem", "folder"] = "stem"
    val_share: float = 0.0
    workers: int | None = None
    address: str | None = None
    gpus_per_worker: float = 0.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SettingsError: one is outside its range, or two exclude each other.
        """
        if self.clips_per_shard < 1:
            raise SettingsError(f"clips_per_shard must be at least 1, but {self.clips_per_shard} was given.")
        if self.workers is not None and self.workers < 0:
            raise SettingsError(f"workers must be at least 0, but {self.workers} was given.")
        if self.gpus_per_worker < 0:
            raise SettingsError(f"gpus_per_worker must be at least 0, but {self.gpus_per_worker:g} was given.")
        if self.workers == 0 and self.address is not None:
            raise SettingsError(
                "workers 0 works in this process, so it has no use for an address; leave one of them out."
            )


@dataclass(frozen=True)
class Counts:
    """How far a phase is."""

    done: int
    kept: int = 0
    dropped: int = 0


class Watcher:
    """Is told how far the work is; this one says nothing."""

    def note(self, text: str) -> None:
        """One sentence that the user should know."""

    @contextmanager
    def phase(self, name: str, total: int, begun: int) -> Iterator[Callable[[Counts], None]]:
        """A phase of `total` items of which `begun` are done already; the block calls what it is given now and then."""
        yield lambda counts: None


def prepare(
    places: Sequence[Path],
    output: Path,
    settings: PreparationSettings,
    running: Running,
    watcher: Watcher | None = None,
) -> PreparedSet | None:
    """Prepare videos, or go on with it.

    Args:
        places: videos, folders, catalogues.
        output: folder of the set.
        settings: what becomes a clip.
        running: how it is run.
        watcher: is told how far it is.

    Returns:
        The finished set, verified; None if not one clip was kept (the report says why).

    Raises:
        InputError: nothing to prepare, or the model or Ray cluster cannot be used.
        OutputError: the folder cannot be used.
        MissingDependencyError: a package of the extra `train` is not installed.
    """
    watcher = watcher or Watcher()
    started = time.monotonic()
    videos = find_videos(places, running.identity, running.val_share)
    model = describe_model(settings.model, settings.latents)
    plan = Plan(
        SCHEMA,
        {**settings.as_dict(), "model_weights": model.get("weights", {})},
        {"clips_per_shard": running.clips_per_shard},
        [video.as_dict() for video in videos],
    )
    output = output.expanduser()
    if _only_the_result(output) and not (running.overwrite and plan.difference(read_json(output / MANIFEST)["plan"])):
        return _finished(output, plan)
    with opened_work(output, plan, running.overwrite) as work:
        arguments = (settings.as_dict(), str(output.absolute()), plan.digest, secrets.token_hex(8))
        job = _Job(work, videos, running.clips_per_shard, arguments, watcher)
        if not job.run(lambda: _crew(running)) and (output / PAGE).is_file() and (output / MANIFEST).is_file():
            return (
                _finished(output, plan) if (read_json(output / MANIFEST) or {}).get("totals", {}).get("kept") else None
            )
        work.sweep()
        rows, shards, clock = job.results()
        by_key = {row["key"]: row for row in rows}
        for key, cosine in leaks(rows).items():
            by_key[key] |= {
                "kept": False,
                "reason": IN_VALIDATION,
                "detail": f"The face is that of a validation clip (cosine {cosine:.2f}), so the clip is not trained on.",
            }
        write_clips(output / CLIPS, rows)
        how = {"workers": running.workers, "address": running.address, "seconds": round(time.monotonic() - started, 1)}
        manifest = build_manifest(plan, rows, shards, model, clock, output / CLIPS, how)
        write_report(output, manifest, rows, {video.video.key: video for video in videos})
        write_json(output / MANIFEST, manifest, indent=1)
    return PreparedSet.open(output) if manifest["totals"]["kept"] else None


def _only_the_result(output: Path) -> bool:
    return (output / MANIFEST).is_file() and read_json(output / "work" / "run.json") is None


def _finished(output: Path, plan: Plan) -> PreparedSet:
    """A set whose work folder was deleted: it is what was asked for, or it is not."""
    prepared = PreparedSet.open(output)
    different = plan.difference(prepared.manifest["plan"])
    if different:
        raise OutputError(
            f"The set in '{output}' was made otherwise: {different}; choose another --output, or pass --overwrite to make it anew."
        )
    prepared.verify()
    return prepared


def _crew(running: Running) -> AbstractContextManager[Crew]:
    if running.workers == 0:
        return nullcontext(InProcess())
    return on_ray(running.workers, running.address, running.gpus_per_worker)


@dataclass
class _Job:
    """The two phases over one work folder."""

    work: WorkFolder
    videos: list[ListedVideo]
    clips_per_shard: int
    arguments: tuple[Any, ...]
    watcher: Watcher

    def run(self, crew: Callable[[], AbstractContextManager[Crew]]) -> bool:
        """Do what is not done yet, and tell whether there was anything. No crew is called for nothing."""
        unseen = [v for v in self.videos if self.work.stored(self.work.spans(v.video.key)) is None]
        waiting = [] if unseen else self._waiting()
        if not unseen and not waiting:
            return False
        # a set with a manifest is a finished one
        (self.work.root / MANIFEST).unlink(missing_ok=True)
        with crew() as workers:
            if unseen:
                jobs = [{"video": asdict(video.video)} for video in unseen]
                with self.watcher.phase("videos", len(self.videos), len(self.videos) - len(unseen)) as show:
                    for count, _ in enumerate(workers.do(VideoTask, self.arguments, jobs), 1):
                        show(Counts(len(self.videos) - len(unseen) + count))
                waiting = self._waiting()
            if waiting:
                self._make(workers, waiting)
        return True

    def _make(self, workers: Crew, waiting: Sequence[DealtShard]) -> None:
        candidates, shards = self.candidates(), self.dealt()
        total, jobs = len(candidates), []
        for shard in waiting:
            # a record of a shard that is gone or damaged says nothing any more
            self.work.record(shard.name).unlink(missing_ok=True)
            spans = [
                {"video": asdict(span.video), "name": name, "index": span.index, "start": span.start, "end": span.end}
                for span, name in (candidates[i] for i in shard.members)
            ]
            jobs.append({"name": shard.name, "split": shard.split, "spans": spans})
        begun = self._counts(shards)
        with self.watcher.phase("clips", total, begun.done) as show, _polling(lambda: show(self._counts(shards))):
            for _ in workers.do(ShardTask, self.arguments, jobs):
                pass
            show(self._counts(shards))

    def candidates(self) -> list[tuple[ClipSpan, str]]:
        """Every span that may become a clip, in the order of keys, with the name of its video."""
        return [(item, v.name) for v in self.videos for item in self._found(v) if isinstance(item, ClipSpan)]

    def dealt(self) -> list[DealtShard]:
        """The candidates as shards."""
        return deal([span.video.split for span, _ in self.candidates()], self.clips_per_shard)

    def results(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], StageClock]:
        """Rows of all candidates sorted by key, records of the shards that hold something, and how long the stages took."""
        clock, rows = StageClock(), []
        for video in self.videos:
            clock.add((self.work.stored(self.work.spans(video.video.key)) or {}).get("clock", {}))
            rows += [clip_row(item, video.name, "") for item in self._found(video) if isinstance(item, Dropped)]
        shards = []
        for shard in self.dealt():
            record = self.work.stored(self.work.record(shard.name))
            assert record is not None, f"{shard.name} was not made"
            clock.add(record["clock"])
            rows += record["rows"]
            shards += [record] if record["samples"] else []
        return sorted(rows, key=lambda row: (row["key"], row["start"])), shards, clock

    def _found(self, video: ListedVideo) -> list[ClipSpan | Dropped]:
        record = self.work.stored(self.work.spans(video.video.key))
        assert record is not None, f"{video.video.key} was not looked at"
        if "unreadable" in record:
            reason, detail = record["unreadable"]
            return [Dropped(ClipSpan(video.video, 0, 0.0, 0.0), reason, detail)]
        found: list[ClipSpan | Dropped] = []
        for item in record["spans"]:
            span = ClipSpan(video.video, item["index"], item["start"], item["end"])
            found.append(Dropped(span, item["reason"], item["detail"], item["row"]) if "reason" in item else span)
        return found

    def _waiting(self) -> list[DealtShard]:
        """Shards that are not there, or not as their record says."""
        return [shard for shard in self.dealt() if not self._whole(shard)]

    def _whole(self, shard: DealtShard) -> bool:
        record, tar = self.work.stored(self.work.record(shard.name)), self.work.tar(shard.name)
        if record is None:
            return False
        if not record["samples"]:
            return not tar.exists()
        return tar.is_file() and tar.stat().st_size == record["bytes"] and file_sha256(tar) == record["sha256"]

    def _counts(self, shards: Sequence[DealtShard]) -> Counts:
        """Finished shards, and what the workers say of those that they are at."""
        done = kept = 0
        for shard in shards:
            if shard.name not in self._finished and (record := self.work.stored(self.work.record(shard.name))):
                self._finished[shard.name] = record["samples"]
            if shard.name in self._finished:
                done, kept = done + len(shard.members), kept + self._finished[shard.name]
            elif (state := read_json(self.work.running / f"shard-{shard.name}.json")) is not None:
                done, kept = done + state["done"], kept + state["kept"]
        return Counts(done, kept, done - kept)

    def __post_init__(self) -> None:
        self._finished: dict[str, int] = {}


@contextmanager
def _polling(look: Callable[[], None]) -> Iterator[None]:
    """Call something twice a second from a thread while the block lasts."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(_POLL_SECONDS):
            look()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
