"""The two phases of a preparation: find spans in the videos, then make shards of them. Each resumes where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, StageClock
from fantasytalking.data.preparation.executors import Executor
from fantasytalking.data.preparation.phase_progress import PhaseCounts, PhaseProgress, polling
from fantasytalking.data.preparation.shard_writer import ShardAssignment, assign_shards
from fantasytalking.data.preparation.video_sources import ListedVideo
from fantasytalking.data.preparation.work_folder import WorkFolder
from fantasytalking.data.preparation.worker_tasks import FindSpansTask, MakeShardTask, clip_row
from fantasytalking.data.set_records import MANIFEST
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.json import read_json

__all__ = ["PreparationPhases"]


@dataclass
class PreparationPhases:
    """Both phases over one work folder.

    Attributes:
        work: Work folder of the set.
        videos: Videos to prepare, sorted by key.
        clips_per_shard: Candidates per shard.
        arguments: Arguments of both tasks' constructors.
        progress: Receives the progress.
    """

    work: WorkFolder
    videos: list[ListedVideo]
    clips_per_shard: int
    arguments: tuple[Any, ...]
    progress: PhaseProgress
    _samples: dict[str, int] = field(default_factory=dict)
    """Number of clips of each shard that is known to be finished."""

    def run(self, start_executor: Callable[[], AbstractContextManager[Executor]]) -> bool:
        """Run the unfinished parts of both phases.

        Args:
            start_executor: Gives the executor; not called if nothing is to be done.

        Returns:
            Whether there was anything to do.
        """
        unseen = [v for v in self.videos if self.work.load(self.work.spans(v.video.key)) is None]
        unfinished = [] if unseen else self._unfinished_shards()
        if not unseen and not unfinished:
            return False
        # a set with a manifest is a finished one
        (self.work.root / MANIFEST).unlink(missing_ok=True)
        with start_executor() as executor:
            if unseen:
                self._find_spans(executor, unseen)
                unfinished = self._unfinished_shards()
            if unfinished:
                self._make_shards(executor, unfinished)
        return True

    def results(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], StageClock]:
        """Rows of all candidates sorted by key, records of the shards that hold a clip, and the time that each stage took."""
        clock, rows = StageClock(), []
        for video in self.videos:
            clock.add((self.work.load(self.work.spans(video.video.key)) or {}).get("clock", {}))
            rows += [clip_row(item, video.name, "") for item in self._found(video) if isinstance(item, Dropped)]
        shards = []
        for shard in self._shards():
            record = self.work.load(self.work.record(shard.name))
            assert record is not None, f"{shard.name} was not made"
            clock.add(record["clock"])
            rows += record["rows"]
            shards += [record] if record["samples"] else []
        return sorted(rows, key=lambda row: (row["key"], row["start"])), shards, clock

    def _find_spans(self, executor: Executor, videos: Sequence[ListedVideo]) -> None:
        jobs = [{"video": asdict(video.video)} for video in videos]
        total = len(self.videos)
        begun = total - len(videos)
        with self.progress.phase("videos", total, begun) as show:
            for count, _ in enumerate(executor.run(FindSpansTask, self.arguments, jobs), 1):
                show(PhaseCounts(begun + count))

    def _make_shards(self, executor: Executor, unfinished: Sequence[ShardAssignment]) -> None:
        candidates, shards = self._candidates(), self._shards()
        jobs = []
        for shard in unfinished:
            # a record of a shard that is missing or damaged is out of date
            self.work.record(shard.name).unlink(missing_ok=True)
            spans = [
                {"video": asdict(span.video), "name": name, "index": span.index, "start": span.start, "end": span.end}
                for span, name in (candidates[i] for i in shard.members)
            ]
            jobs.append({"name": shard.name, "split": shard.split, "spans": spans})
        begun = self._counts(shards)
        with (
            self.progress.phase("clips", len(candidates), begun.done) as show,
            polling(lambda: show(self._counts(shards))),
        ):
            for _ in executor.run(MakeShardTask, self.arguments, jobs):
                pass
            show(self._counts(shards))

    def _candidates(self) -> list[tuple[ClipSpan, str]]:
        """Every span that may become a clip, in the order of keys, with the name of its video."""
        return [(item, v.name) for v in self.videos for item in self._found(v) if isinstance(item, ClipSpan)]

    def _shards(self) -> list[ShardAssignment]:
        return assign_shards([span.video.split for span, _ in self._candidates()], self.clips_per_shard)

    def _found(self, video: ListedVideo) -> list[ClipSpan | Dropped]:
        record = self.work.load(self.work.spans(video.video.key))
        assert record is not None, f"{video.video.key} was not searched"
        if "unreadable" in record:
            reason, detail = record["unreadable"]
            return [Dropped(ClipSpan(video.video, 0, 0.0, 0.0), reason, detail)]
        found: list[ClipSpan | Dropped] = []
        for item in record["spans"]:
            span = ClipSpan(video.video, item["index"], item["start"], item["end"])
            found.append(Dropped(span, item["reason"], item["detail"], item["row"]) if "reason" in item else span)
        return found

    def _unfinished_shards(self) -> list[ShardAssignment]:
        """Shards that are missing, or not as their record describes them."""
        return [shard for shard in self._shards() if not self._is_finished(shard)]

    def _is_finished(self, shard: ShardAssignment) -> bool:
        record, tar = self.work.load(self.work.record(shard.name)), self.work.tar(shard.name)
        if record is None:
            return False
        if not record["samples"]:
            return not tar.exists()
        return tar.is_file() and tar.stat().st_size == record["bytes"] and file_sha256(tar) == record["sha256"]

    def _counts(self, shards: Sequence[ShardAssignment]) -> PhaseCounts:
        """Finished shards, and what the workers report of those that they are working on."""
        done = kept = 0
        for shard in shards:
            if shard.name not in self._samples and (record := self.work.load(self.work.record(shard.name))):
                self._samples[shard.name] = record["samples"]
            if shard.name in self._samples:
                done, kept = done + len(shard.members), kept + self._samples[shard.name]
            elif (state := read_json(self.work.running / f"shard-{shard.name}.json")) is not None:
                done, kept = done + state["done"], kept + state["kept"]
        return PhaseCounts(done, kept, done - kept)
