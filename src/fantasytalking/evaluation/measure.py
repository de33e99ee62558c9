"""Measurement of one clip, stored in one file per clip and metric, so that an interrupted run continues where it stopped.

The key of a stored measurement covers everything that it depends on: content of frames, sound and reference, the protocol's measuring
fields, and the metric's own digest. After a file is renamed, or a metric or a method is added, nothing is measured twice.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.evaluation.footage import Footage, file_digest, load_footage
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.pairing import Task
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Curve
from fantasytalking.media.audio import fit_length
from fantasytalking.media.video import probe_video
from fantasytalking.system.digests import json_sha256
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import read_json, read_json_object, write_json

__all__ = ["MeasuredClip", "measure_clip"]

SLACK = 1.5
"""Frames by which the lengths of a clip and its reference may differ without a note."""


@dataclass(frozen=True)
class MeasuredClip:
    """Measurements of one clip.

    Attributes:
        task: The clip.
        frames: Number of frames that were measured.
        measurements: Metric name -> measurement, or the reason why there is none.
        problems: Reasons that concern the file rather than a metric.
    """

    task: Task
    frames: int
    measurements: dict[str, Measurement | str]
    problems: tuple[str, ...]


def measure_clip(task: Task, metrics: Sequence[Metric], protocol: Protocol, store: Path) -> MeasuredClip:
    """Measure a clip, except for what the store already holds.

    Args:
        task: The clip.
        metrics: The metrics, with their networks.
        protocol: Protocol of the measurement.
        store: Folder of the measurements.

    Returns:
        The measurements. A file that cannot be used is recorded in `problems` and raises no exception.
    """
    try:
        keys = {metric.name: _key(task, metric, protocol) for metric in metrics}
    except OSError as error:
        return MeasuredClip(task, 0, {}, (f"The file cannot be read ({error.strerror}).",))
    found: dict[str, Measurement | str] = {}
    missing = []
    for metric in metrics:
        stored = _load(store / keys[metric.name])
        if stored is None:
            missing.append(metric)
        else:
            found[metric.name] = stored
    summary = (
        store / f"clip-{_hash(_content(task.video), _content(task.reference), task.still, protocol.measuring)}.json"
    )
    about = read_json_object(summary)
    if missing or not about:
        try:
            clip, reference = _load_pair(task, protocol)
        except FantasyTalkingError as error:
            return MeasuredClip(task, 0, {}, (str(error),))
        if not about:
            about = {"frames": len(clip.frames), "problems": _length_problems(clip, reference)}
            write_json(summary, about)
        for metric in missing:
            found[metric.name] = _measure(metric, clip, reference)
            _save(store / keys[metric.name], found[metric.name])
    return MeasuredClip(task, about["frames"], found, tuple(about["problems"]))


def _key(task: Task, metric: Metric, protocol: Protocol) -> str:
    parts: dict[str, Any] = {
        "picture": _content(task.video),
        "still": task.still,
        "metric": metric.digest,
        "protocol": protocol.measuring,
    }
    if metric.hears:
        parts["sound"] = _content(task.sound)
        # A file without sound is measured with the reference's, see `_load_pair`.
        if task.sound != task.reference and not _has_sound(task.sound, *_state(task.sound)):
            parts["lent sound"] = _content(task.reference)
    if metric.compares:
        parts["reference"] = _content(task.reference)
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
def _reference(path: Path, protocol: Protocol) -> Footage:
    return load_footage(path, protocol)


def _load_pair(task: Task, protocol: Protocol) -> tuple[Footage, Footage]:
    reference = _reference(task.reference, protocol)
    if task.video == task.reference and task.sound == task.video and not task.still:
        return reference, reference
    if task.still:
        frames = np.repeat(reference.frames[:1], len(reference.frames), axis=0)
        return Footage(reference.name, frames, reference.sound, protocol, reference.seconds), reference
    sound = task.sound
    clip = load_footage(task.video, protocol, None if sound == task.video else sound)
    if task.video == task.reference:
        # The frames are the same and only the sound differs, so what was found in the frames is reused.
        clip.__dict__.update({k: v for k, v in reference.__dict__.items() if k in ("track", "persons", "longest_run")})
    if clip.sound is None:
        clip.borrows_sound = True
        clip.sound = None if reference.sound is None else _fitted(reference.sound, len(clip.frames), protocol)
    return clip, reference


def _fitted(sound: np.ndarray, frames: int, protocol: Protocol) -> np.ndarray:
    wanted = round(frames / protocol.fps * SAMPLE_RATE)
    return fit_length(sound, wanted)


def _length_problems(clip: Footage, reference: Footage) -> list[str]:
    lengths = [min(footage.seconds, clip.protocol.max_seconds) for footage in (clip, reference)]
    problems = []
    if clip.borrows_sound:
        problems.append("It has no sound of its own; sync was measured with the real clip's.")
    if abs(lengths[0] - lengths[1]) * clip.protocol.fps > SLACK:
        problems.append(
            f"It lasts {lengths[0]:.2f} s and the real clip {lengths[1]:.2f} s; what compares frames used the common beginning."
        )
    shapes = [footage.frames.shape[2] / footage.frames.shape[1] for footage in (clip, reference)]
    if abs(shapes[0] / shapes[1] - 1) > 0.03:
        problems.append(
            f"Its sides are as {shapes[0]:.2f} to 1 and the real clip's as {shapes[1]:.2f} to 1; it was measured as it is, crop one like "
            "the other."
        )
    return problems


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
