"""The tasks of a worker: find the spans of a video, or make one shard. Both write complete files or none.

A file says what the worker is working on. The command shows it as progress, and it tells a clip that repeatedly crashes its process
(a damaged file can crash a decoder) from one whose process was killed once.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, PreparedClip, SourceVideo, StageClock
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.prepare_clip import ClipPreparer
from fantasytalking.data.preparation.scene_cuts import find_spans
from fantasytalking.data.preparation.shard_writer import writing_shard
from fantasytalking.data.preparation.work_folder import WorkFolder
from fantasytalking.data.set_verification import files_sha256
from fantasytalking.errors import CheckpointError, InputError, MissingDependencyError, OutputError, SettingsError
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.json import read_json, write_strict_json

__all__ = ["MAX_CRASHES", "FindSpansTask", "MakeShardTask", "clip_row"]

MAX_CRASHES = 3
"""Maximum crashes per clip; one more attempt, and it is dropped."""
# faults of the run and not of a clip: these stop the run
_RUN_ERRORS = (CheckpointError, MissingDependencyError, SettingsError, OutputError)


class _Attempts:
    """File of a worker's progress: how often each unfinished item was begun in this run, and how many items are done and kept."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        found = read_json(path)
        tries = found["tries"] if isinstance(found, dict) and found.get("run") == run else {}
        self._state: dict[str, Any] = {
            "run": run,
            "process": os.getpid(),
            "tries": tries,
            "done": 0,
            "kept": 0,
        }

    def begin(self, key: str) -> bool:
        """Note that an item is begun.

        Returns:
            Whether it may be tried; False after `MAX_CRASHES` crashes.
        """
        tries = self._state["tries"]
        tries[key] = tries.get(key, 0) + 1
        self._write()
        return int(tries[key]) <= MAX_CRASHES

    def end(self, key: str, kept: bool) -> None:
        """Note that an item is finished."""
        self._state["tries"].pop(key, None)
        self._state["done"] += 1
        self._state["kept"] += kept

    def close(self) -> None:
        """Delete the file; the task is finished."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        write_strict_json(self._path, self._state)


class FindSpansTask:
    """Finds the spans of videos.

    Args:
        settings: Fields of `PreparationSettings`.
        root: Folder of the set.
        digest: Digest of the plan.
        run: Random name of this run of the command.
    """

    def __init__(self, settings: dict[str, Any], root: str, digest: str, run: str) -> None:
        self._settings, self._work, self._run = PreparationSettings(**settings), WorkFolder(Path(root), digest), run

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """Write `work/spans/KEY.json`.

        Args:
            job: {"video": fields of `SourceVideo`}.

        Returns:
            An empty dictionary; the result is the file.
        """
        video, clock = SourceVideo(**job["video"]), StageClock()
        attempts = _Attempts(self._work.running / f"video-{video.key}.json", self._run)
        record: dict[str, Any] = {"plan": self._work.digest, "spans": []}
        if not attempts.begin(video.key):
            record["unreadable"] = ["crashed", _crashed("video")]
        else:
            try:
                record["spans"] = [_span_record(found) for found in find_spans(video, self._settings, clock)]
            except _RUN_ERRORS:
                raise
            except InputError as error:
                record["unreadable"] = ["unreadable", str(error)]
            except Exception as error:
                record["unreadable"] = ["error", _unexpected(error)]
        write_strict_json(self._work.spans(video.key), {**record, "clock": clock.as_dict()})
        attempts.close()
        return {}


class MakeShardTask:
    """Makes shards; the networks are loaded once per object. Arguments as for `FindSpansTask`."""

    def __init__(self, settings: dict[str, Any], root: str, digest: str, run: str) -> None:
        self._prepare = ClipPreparer(PreparationSettings(**settings))
        self._work, self._run = WorkFolder(Path(root), digest), run

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """Write a shard and its record.

        Args:
            job: {"name", "split", "spans": [{"video", "name", "index", "start", "end"}]}.

        Returns:
            An empty dictionary; the result is the files.
        """
        name, clock = job["name"], StageClock()
        tar, rows = self._work.tar(name), []
        attempts = _Attempts(self._work.running / f"shard-{name}.json", self._run)
        with writing_shard(tar) as shard:
            for given in job["spans"]:
                span = ClipSpan(SourceVideo(**given["video"]), given["index"], given["start"], given["end"])
                outcome = self._outcome(span, clock, attempts)
                row = clip_row(outcome, given["name"], name)
                if isinstance(outcome, PreparedClip):
                    row["sha256"] = files_sha256(outcome.files)
                    shard.add(span.key, row, outcome.files)
                    row = {**row, **_embedding_and_motion(outcome.files["safetensors"])}
                rows.append(row)
                attempts.end(span.key, kept=bool(row["kept"]))
        record = {
            "plan": self._work.digest,
            "name": name,
            "split": job["split"],
            "samples": shard.samples,
            "rows": rows,
        }
        if shard.samples:
            record |= {"bytes": tar.stat().st_size, "sha256": file_sha256(tar)}
        write_strict_json(self._work.record(name), {**record, "clock": clock.as_dict()})
        attempts.close()
        return {}

    def _outcome(self, span: ClipSpan, clock: StageClock, attempts: _Attempts) -> PreparedClip | Dropped:
        if not attempts.begin(span.key):
            return Dropped(span, "crashed", _crashed("clip"))
        try:
            return self._prepare(span, clock)
        except _RUN_ERRORS:
            raise
        except InputError as error:
            return Dropped(span, "unreadable", str(error))
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":
                # of the GPU: not a fault of the clip
                raise
            return Dropped(span, "error", _unexpected(error))


def clip_row(outcome: PreparedClip | Dropped, name: str, shard: str) -> dict[str, Any]:
    """Row of `clips.jsonl`: name and place, whether it was kept or why not, provenance, measures.

    Args:
        outcome: Result of the stages.
        name: Path of the video below the folder that was given.
        shard: Name of the shard that the clip is in if it was kept.
    """
    span, kept = outcome.span, isinstance(outcome, PreparedClip)
    why = (outcome.reason, outcome.detail) if isinstance(outcome, Dropped) else ("", "")
    video = span.video
    row = {
        "key": span.key,
        "file": name,
        "start": span.start,
        "end": span.end,
        "kept": kept,
        "reason": why[0],
        "detail": why[1].replace(video.path, name),
        "identity": video.identity,
        "kind": video.kind,
        "split": video.split,
        "source": video.source,
        "terms": video.terms,
        "shard": shard if kept else "",
    }
    return {**row, **{key: value for key, value in outcome.row.items() if key not in row}}


def _embedding_and_motion(content: bytes) -> dict[str, Any]:
    """Face embedding and raw motion of a sample's windows, which the end of the run needs; they are not part of its final row."""
    from safetensors.torch import load

    arrays = load(content)
    windows = [arrays[key] for key in sorted(arrays) if key.startswith("motion.")] or [arrays["motion"]]
    embedding = np.asarray(arrays["embedding"].float(), "<f4").tobytes()
    return {"_embedding": base64.b64encode(embedding).decode(), "_motion": [[float(v) for v in w] for w in windows]}


def _span_record(found: ClipSpan | Dropped) -> dict[str, Any]:
    span = found.span if isinstance(found, Dropped) else found
    kept: dict[str, Any] = {"index": span.index, "start": span.start, "end": span.end}
    if isinstance(found, Dropped):
        kept |= {"reason": found.reason, "detail": found.detail, "row": found.row}
    return kept


def _crashed(what: str) -> str:
    return f"The process that worked on this {what} died {MAX_CRASHES} times; the file may be damaged so that it crashes a decoder."


def _unexpected(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
