"""Measurement of one clip in all rows, stored in one file per video and metric, so that an interrupted run continues where it stopped.

All rows of a clip are measured over the same frames: from the beginning to the end of the shortest of its videos. The key of a stored
measurement covers everything that it depends on: content of frames, sound and reference, where they are cut, the protocol's measuring
fields, and the metric's own digest. After a file is renamed, or a metric or a method is added, nothing is measured twice unless the new
method has a shorter video.
"""

from __future__ import annotations

import dataclasses
import functools
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import FantasyTalkingError, OutputError
from fantasytalking.evaluation.clip_facts import ClipFacts, read_facts
from fantasytalking.evaluation.footage import Footage, file_digest, load_footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.pairing import Task
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Curve
from fantasytalking.evaluation.speech_targets import onsets_beside
from fantasytalking.media.audio import fit_length
from fantasytalking.media.video import probe_video
from fantasytalking.system.digests import json_sha256
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import read_json, read_json_object, write_json

__all__ = ["MeasuredClip", "measure_clip"]

FACTS_VERSION = 2
"""Raised when `clip_facts` changes, so that stored facts are read again."""


@dataclass(frozen=True)
class MeasuredClip:
    """Measurements of one clip.

    Attributes:
        task: The clip.
        frames: Number of frames that were measured, the same in all rows of the clip; 0 where nothing was.
        measurements: Metric name -> measurement, or the reason why there is none.
        facts: Facts about the video, and about the real clip; None where one of the two cannot be read.
        problem: Reason why the file cannot be used, or "".
    """

    task: Task
    frames: int
    measurements: dict[str, Measurement | str]
    facts: tuple[ClipFacts, ClipFacts] | None = None
    problem: str = ""


def measure_clip(
    tasks: Sequence[Task], metrics: Sequence[Metric], protocol: Protocol, store: Path
) -> list[MeasuredClip]:
    """Measure one clip in all rows, except for what the store already holds.

    Args:
        tasks: The clip in each row; all have the same reference.
        metrics: The metrics, with their networks.
        protocol: Protocol of the measurement.
        store: Folder of the measurements.

    Returns:
        The measurements, in the order of the tasks. A file that cannot be used is recorded in `problem` and raises no exception.
    """
    facts = {path: _facts(path, protocol, store) for task in tasks for path in (task.video, task.reference)}
    known = [found for found in facts.values() if isinstance(found, ClipFacts)]
    frames = min((found.frames for found in known), default=0)
    return [_measure_task(task, metrics, protocol, store, facts, frames) for task in tasks]


def _measure_task(
    task: Task,
    metrics: Sequence[Metric],
    protocol: Protocol,
    store: Path,
    facts: Mapping[Path, ClipFacts | str],
    frames: int,
) -> MeasuredClip:
    own, real = facts[task.video], facts[task.reference]
    if isinstance(own, str):
        return MeasuredClip(task, 0, {}, problem=own)
    if isinstance(real, str):
        return MeasuredClip(task, 0, {}, problem=f"The real clip cannot be used: {real}")
    found: dict[str, Measurement | str] = {}
    try:
        keys = {metric.name: _key(task, metric, protocol, frames, own, real) for metric in metrics}
        pair: tuple[Footage, Footage] | None = None
        for metric in metrics:
            stem = store / keys[metric.name]
            stored = _load(stem)
            if stored is None:
                pair = pair or _load_pair(task, protocol, frames)
                stored = _measure(metric, *pair)
                _save(stem, stored)
            found[metric.name] = stored
    except OutputError:
        raise
    except OSError as error:
        return MeasuredClip(task, 0, {}, problem=f"The file cannot be read ({error.strerror}).")
    except FantasyTalkingError as error:
        return MeasuredClip(task, 0, {}, problem=str(error))
    return MeasuredClip(task, frames, found, (own, real))


def _facts(path: Path, protocol: Protocol, store: Path) -> ClipFacts | str:
    """Facts about a file, or the reason why there are none; kept in the store."""
    try:
        file = store / f"file-{_hash(FACTS_VERSION, _content(path), protocol.fps, protocol.max_seconds)}.json"
        found = ClipFacts.from_dict(read_json_object(file))
        if found is None:
            found = read_facts(path, protocol)
            write_json(file, found.to_dict())
    except OutputError:
        raise
    except OSError as error:
        return f"The file cannot be read ({error.strerror})."
    except FantasyTalkingError as error:
        return str(error)
    return found


def _key(task: Task, metric: Metric, protocol: Protocol, frames: int, own: ClipFacts, real: ClipFacts) -> str:
    parts: dict[str, Any] = {
        "picture": _content(task.video),
        "still": task.still,
        "metric": metric.digest,
        "protocol": protocol.measuring,
    }
    if metric.hears:
        parts["sound"] = _content(task.sound)
        onsets = [onsets_beside(path) for path in (task.sound, task.reference)]
        parts["onsets"] = [_content(path) for path in onsets if path.is_file()]
        # A file without sound is measured with the reference's, see `_load_pair`.
        if task.sound != task.reference and not _has_sound(task.sound, *_state(task.sound)):
            parts["lent sound"] = _content(task.reference)
    if metric.compares:
        parts["reference"] = _content(task.reference)
    if own.frames > frames or (metric.compares and real.frames > frames):
        parts["cut"] = frames
    return _hash(parts)


def _hash(*parts: Any) -> str:
    return json_sha256(parts)[:32]


def _content(path: Path) -> str:
    return _digest(path, *_state(path))


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


@functools.lru_cache(maxsize=4096)
def _has_sound(path: Path, size: int, changed: int) -> bool:
    try:
        return probe_video(path).has_audio
    except FantasyTalkingError:
        return True  # reported when the file is read


@functools.lru_cache(maxsize=1)
def _reference(path: Path, protocol: Protocol, frames: int, states: tuple[tuple[int, int], ...]) -> Footage:
    return load_footage(path, protocol, most_frames=frames)


def _load_pair(task: Task, protocol: Protocol, frames: int) -> tuple[Footage, Footage]:
    files = [path for path in (task.reference, onsets_beside(task.reference)) if path.is_file()]
    # with the states of its files, so that one which is changed is read again
    reference = _reference(task.reference, protocol, frames, tuple(_state(path) for path in files))
    if task.video == task.reference and task.sound == task.video and not task.still:
        return reference, reference
    if task.still:
        repeated = np.repeat(reference.frames[:1], len(reference.frames), axis=0)
        still = dataclasses.replace(reference, frames=repeated)
        still.__dict__.update({k: v for k, v in reference.__dict__.items() if k in ("speech", "voiced", "targets")})
        return still, reference
    sound = task.sound
    clip = load_footage(task.video, protocol, None if sound == task.video else sound, frames)
    if task.video == task.reference:
        # The frames are the same and only the sound differs, so what was found in the frames is reused.
        found = ("track", "eyes", "persons", "longest_run")
        clip.__dict__.update({k: v for k, v in reference.__dict__.items() if k in found})
    if clip.onsets is None and task.sound == task.video:
        clip.onsets = reference.onsets
    if clip.sound is None:
        clip.sound = None if reference.sound is None else _fitted(reference.sound, len(clip.frames), protocol)
    return clip, reference


def _fitted(sound: np.ndarray, frames: int, protocol: Protocol) -> np.ndarray:
    wanted = round(frames / protocol.fps * SAMPLE_RATE)
    return fit_length(sound, wanted)


def _measure(metric: Metric, clip: Footage, reference: Footage) -> Measurement | str:
    try:
        return metric.measure(clip, reference)
    except FantasyTalkingError as error:
        return str(error)


def _load(stem: Path) -> Measurement | str | None:
    raw = read_json(stem.with_suffix(".json"))
    if not isinstance(raw, dict):
        return None
    if "reason" in raw:
        return str(raw["reason"])
    features: dict[str, Any] = {}
    if raw["features"]:
        try:
            # numpy leaves a damaged archive open if it opens the path itself
            with stem.with_suffix(".npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                features = {key: arrays[key] for key in raw["features"]}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
    curves = {name: Curve(tuple(c["x"]), tuple(c["y"])) for name, c in raw["curves"].items()}
    return Measurement(raw["values"], features, curves, tuple(raw["notes"]))


def _save(stem: Path, found: Measurement | str) -> None:
    if isinstance(found, str):
        write_json(stem.with_suffix(".json"), {"reason": found})
        return
    if found.features:
        # The arrays are written first, as the JSON file marks a complete measurement.
        arrays: dict[str, Any] = {key: np.asarray(value, np.float32) for key, value in found.features.items()}
        with atomic_path(stem.with_suffix(".npz"), overwrite=True) as temporary:
            np.savez(temporary, **arrays)
    curves = {name: {"x": c.x, "y": c.y} for name, c in found.curves.items()}
    write_json(
        stem.with_suffix(".json"),
        {"values": dict(found.values), "features": list(found.features), "curves": curves, "notes": found.notes},
    )
