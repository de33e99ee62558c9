"""Measuring one clip, and keeping what was found: one file a clip and metric, so that an interrupted run goes on where it was.

A stored measurement is found again by what it depends on: content of picture, sound and reference, the protocol's measuring fields, and the
metric's own digest. Renaming a file, adding a metric or another method makes nothing again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.footage import Footage, file_digest, load_footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.registry import Choice, build
from fantasytalking.evaluation.pairing import Task
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Curve
from fantasytalking.media.audio import fit_length

__all__ = ["Job", "Outcome", "measure_job"]

SLACK = 1.5
"""Frames by which the lengths of a clip and its reference may differ without a word."""


@dataclass(frozen=True)
class Job:
    """All that is measured of one clip.

    Attributes:
        task: which clip.
        choices: which metrics.
        protocol: how.
        store: folder of the measurements.
    """

    task: Task
    choices: tuple[Choice, ...]
    protocol: Protocol
    store: Path


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        frames: looked at.
        measurements: metric name -> measurement, or the reason why there is none.
        problems: reasons that belong to the file rather than a metric.
        measured: metrics that were not found in the store.
    """

    task: Task
    frames: int
    measurements: dict[str, Measurement | str]
    problems: tuple[str, ...]
    measured: int


@functools.cache
def _metric(choice: Choice) -> Metric:
    return build(choice)


@functools.lru_cache(maxsize=1)
def _reference(path: Path, protocol: Protocol) -> Footage:
    return load_footage(path, protocol)


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def _content(path: Path) -> str:
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


def _key(job: Job, metric: Metric) -> str:
    task = job.task
    parts: dict[str, Any] = {
        "picture": _content(task.video),
        "still": task.still,
        "metric": metric.digest,
        "protocol": job.protocol.measuring,
    }
    if metric.hears:
        parts["sound"] = _content(task.sound)
    if metric.compares:
        parts["reference"] = _content(task.reference)
    return _hash(parts)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def measure_job(job: Job) -> Outcome:
    """Measure what is not in the store yet. A file that cannot be used ends in `problems`, never in an exception."""
    task = job.task
    try:
        metrics = [_metric(choice) for choice in job.choices]
        keys = {metric.name: _key(job, metric) for metric in metrics}
    except OSError as error:
        return Outcome(task, 0, {}, (f"The file cannot be read ({error.strerror}).",), 0)
    found: dict[str, Measurement | str] = {}
    missing = []
    for metric in metrics:
        stored = _load(job.store / keys[metric.name])
        if stored is None:
            missing.append(metric)
        else:
            found[metric.name] = stored
    summary = (
        job.store
        / f"clip-{_hash(_content(task.video), _content(task.reference), task.still, job.protocol.measuring)}.json"
    )
    about = _read_json(summary)
    if missing or about is None:
        try:
            made, true = _load_pair(task, job.protocol)
        except FantasyTalkingError as error:
            return Outcome(task, 0, {}, (str(error),), 0)
        if about is None:
            about = {"frames": len(made.frames), "problems": _length_problems(task, made, true)}
            _write_json(summary, about)
        for metric in missing:
            found[metric.name] = _measure(metric, made, true)
            _save(job.store / keys[metric.name], found[metric.name])
    return Outcome(task, about["frames"], found, tuple(about["problems"]), len(missing))


def _load_pair(task: Task, protocol: Protocol) -> tuple[Footage, Footage]:
    true = _reference(task.reference, protocol)
    if task.video == task.reference and task.sound == task.video and not task.still:
        return true, true
    if task.still:
        frames = np.repeat(true.frames[:1], len(true.frames), axis=0)
        return Footage(true.name, frames, true.sound, protocol, true.seconds), true
    sound = task.sound
    made = load_footage(task.video, protocol, None if sound == task.video else sound)
    if task.video == task.reference:
        # Another sound under the same picture: what was found in the picture holds.
        made.__dict__.update({k: v for k, v in true.__dict__.items() if k in ("track", "persons", "longest_run")})
    if made.sound is None:
        made.lends_sound = True
        made.sound = None if true.sound is None else _fitted(true.sound, len(made.frames), protocol)
    return made, true


def _fitted(sound: np.ndarray, frames: int, protocol: Protocol) -> np.ndarray:
    wanted = round(frames / protocol.fps * SAMPLE_RATE)
    return fit_length(sound, wanted)


def _length_problems(task: Task, made: Footage, true: Footage) -> list[str]:
    reach = made.protocol.max_seconds
    lengths = [min(footage.seconds, reach) for footage in (made, true)]
    problems = []
    if made.lends_sound:
        problems.append("It has no sound of its own; sync was measured with the real clip's.")
    if abs(lengths[0] - lengths[1]) * made.protocol.fps > SLACK:
        problems.append(
            f"It lasts {lengths[0]:.2f} s and the real clip {lengths[1]:.2f} s; what compares frames used the common beginning."
        )
    shapes = [footage.frames.shape[2] / footage.frames.shape[1] for footage in (made, true)]
    if abs(shapes[0] / shapes[1] - 1) > 0.03:
        problems.append(
            f"Its sides are as {shapes[0]:.2f} to 1 and the real clip's as {shapes[1]:.2f} to 1; it was measured as it is, crop one like "
            "the other."
        )
    return problems


def _measure(metric: Metric, made: Footage, true: Footage) -> Measurement | str:
    try:
        return metric.measure(made, true)
    except FantasyTalkingError as error:
        return str(error)


def _load(stem: Path) -> Measurement | str | None:
    raw = _read_json(stem.with_suffix(".json"))
    if raw is None:
        return None
    if "reason" in raw:
        return str(raw["reason"])
    features: dict[str, Any] = {}
    if raw["features"]:
        try:
            with np.load(stem.with_suffix(".npz"), allow_pickle=False) as arrays:
                features = {key: arrays[key] for key in raw["features"]}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
    curves = {name: Curve(tuple(c["x"]), tuple(c["y"])) for name, c in raw["curves"].items()}
    return Measurement(raw["values"], features, curves, tuple(raw["notes"]))


def _save(stem: Path, found: Measurement | str) -> None:
    if isinstance(found, str):
        _write_json(stem.with_suffix(".json"), {"reason": found})
        return
    if found.features:
        temporary = stem.with_name(f".{stem.name}.{os.getpid()}.npz")
        # The arrays first: a json says that everything is there.
        arrays: dict[str, Any] = {key: np.asarray(value, np.float32) for key, value in found.features.items()}
        np.savez(temporary, **arrays)
        os.replace(temporary, stem.with_suffix(".npz"))
    curves = {name: {"x": c.x, "y": c.y} for name, c in found.curves.items()}
    _write_json(
        stem.with_suffix(".json"),
        {"values": dict(found.values), "features": list(found.features), "curves": curves, "notes": found.notes},
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)
