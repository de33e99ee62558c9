"""From the cases of a manifest to what a run reads: checked files, portraits, exact stretches of sound, reference clips."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Window
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.media.audio import Audio, fit_length, load_audio
from fantasytalking.media.video import iterate_frames, probe_video, write_video
from fantasytalking.pipeline.inputs import SOUNDTRACK_RATE, ImageSource
from fantasytalking.system.files import atomic_path

__all__ = [
    "bad_files",
    "choose_donors",
    "cut_sound",
    "link_file",
    "portrait_of",
    "read_record",
    "unusable",
    "write_record",
    "write_reference",
]

REFERENCE_CRF = 4
"""H.264 quality of a cut reference: what it loses is far below what any metric sees, at a size that can be kept."""


def bad_files(cases: Iterable[Case], data: Path) -> dict[str, str]:
    """Files that are missing or not the ones that the manifest means: name -> what is wrong, as a sentence.

    Args:
        cases: every file of them is read once and hashed.
        data: folder that the names are relative to.
    """
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name, expected in (item for case in cases for item in case.inputs.items()):
        path = data / name
        if not path.is_file():
            found[name] = f"There is no file '{path}'; the manifest's data are another folder, or not complete."
            continue
        try:
            seen[name] = seen.get(name) or file_digest(path)
        except InputError as error:
            found[name] = str(error)
            continue
        if seen[name] != expected:
            found[name] = (
                f"The file '{path}' is not the one that the manifest means: its SHA-256 begins with {seen[name][:12]}, "
                f"{expected[:12]} is expected."
            )
    return found


def unusable(cases: Iterable[Case], bad: Mapping[str, str]) -> dict[str, str]:
    """Cases that a bad file belongs to: name -> why."""
    return {
        case.name: next(bad[f] for f in case.inputs if f in bad) for case in cases if bad.keys() & case.inputs.keys()
    }


def choose_donors(cases: Sequence[Case]) -> dict[str, Case]:
    """For each case another one whose speech it gets: a fixed choice, never the same identity, never shorter.

    Cases are put in order of falling length; each takes from the one before it, going round at the start and skipping those of its
    own identity or with too little sound. Among cases of one length this is a rotation. A case without a possible donor is left out.
    """
    order = sorted(range(len(cases)), key=lambda i: (-cases[i].speech.seconds, i))
    found = {}
    for place, index in enumerate(order):
        case = cases[index]
        for back in range(1, len(order)):
            other = cases[order[(place - back) % len(order)]]
            if other.identity != case.identity and other.speech.seconds >= case.speech.seconds:
                found[case.name] = other
                break
    return found


def portrait_of(case: Case, data: Path) -> ImageSource:
    """The portrait's file, or the first frame [H, W, 3] uint8 of the reference.

    Raises:
        VideoError: the reference cannot be read there.
    """
    if case.portrait is not None:
        return data / case.portrait.file
    frames = iterate_frames(data / case.reference.file, None, 1, case.reference.start)
    frame = next(iter(frames), None)
    if frame is None:
        raise InputError(f"The clip '{case.reference.file}' shows nothing at second {case.reference.start:g}.")
    return frame


def cut_sound(window: Window, data: Path, seconds: float | None = None) -> Audio:
    """A stretch of sound, 48 kHz mono, of exactly its length; what the file lacks at its end is silence.

    Args:
        window: of which file and where.
        data: folder that its name is relative to.
        seconds: another length.

    Raises:
        AudioError: the file has no sound.
    """
    length = window.seconds if seconds is None else seconds
    # the pipeline looks for silence itself; a silent reference is no error
    wanted = {"start": window.start, "seconds": length}
    sound = load_audio(data / window.file, SOUNDTRACK_RATE, min_seconds=0.0, allow_silent=True, **wanted)
    return Audio(fit_length(sound.samples, round(length * SOUNDTRACK_RATE)), SOUNDTRACK_RATE)


def write_reference(case: Case, data: Path, folder: Path, looked_at: float) -> str:
    """The real clip that a case is measured against, beside a record of how it was made.

    A window from the file's beginning whose rest nobody looks at is the file itself, unchanged; any other is cut out and encoded
    again, nearly without loss. Where the case's speech is of the same file at another time, which puts a clip in step that was
    published out of step, the reference gets that sound. What is there already and current is kept.

    Args:
        case: whose reference.
        data: folder of the footage.
        folder: where `CASE.mp4` (or the file's own suffix) and `CASE.json` go.
        looked_at: seconds of a clip that the protocol looks at.

    Returns:
        A sentence where it was encoded again, or "".

    Raises:
        VideoError: the clip cannot be read.
        OutputError: the disk is full.
    """
    window, source = case.reference, data / case.reference.file
    info = probe_video(source)
    if window.start + window.seconds > info.seconds + 1.5 / float(info.fps):
        raise InputError(
            f"The clip '{source}' lasts {info.seconds:.2f} s, but {window.seconds:g} s from second {window.start:g} are asked for."
        )
    frame = 1.5 / float(info.fps)
    moved = case.audio is not None and case.audio.file == window.file and case.audio.start != window.start
    heard = case.audio if moved and case.audio is not None else window
    whole = not moved and window.start == 0 and (window.seconds >= looked_at or info.seconds <= window.seconds + frame)
    suffix = source.suffix if whole else ".mp4"
    target, record = folder / f"{case.name}{suffix}", folder / f"{case.name}.json"
    made_as = {
        "window": asdict(window),
        "sound": asdict(heard),
        "unchanged": whole,
        "crf": None if whole else REFERENCE_CRF,
    }
    note = (
        "" if whole else f"The reference of {case.name} is cut from its file and encoded again at crf {REFERENCE_CRF}."
    )
    known = read_record(record)
    if known.get("made_as") == made_as and target.is_file() and known.get("sha256") == file_digest(target):
        return note
    for stale in (record, *folder.glob(f"{case.name}.*")):
        stale.unlink(missing_ok=True)
    if whole:
        link_file(source, target)
    else:
        count = max(1, round(window.seconds * float(info.fps)))
        sound = cut_sound(heard, data, window.seconds) if info.has_audio else None
        frames = iterate_frames(source, None, count, window.start)
        write_video(target, frames, info.fps, sound, overwrite=True, crf=REFERENCE_CRF)
    write_record(record, {"case": case.name, "made_as": made_as, "sha256": file_digest(target), "note": note})
    return note


def link_file(source: Path, target: Path) -> None:
    """Make a file appear under a second name: a hard link, or a copy where the file system or the rights allow none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with atomic_path(target, overwrite=True) as temporary:
            shutil.copyfile(source, temporary)


def read_record(path: Path) -> dict[str, Any]:
    """A record that `write_record` wrote; empty where there is none or it is damaged."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def write_record(path: Path, values: Mapping[str, Any]) -> None:
    """Plain values as JSON, whole or not at all; an existing file is replaced."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
