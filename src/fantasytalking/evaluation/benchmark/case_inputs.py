"""The inputs of a benchmark run, from the cases of its manifest: checked files, portraits, exact stretches of sound, reference clips."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fantasytalking.errors import InputError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Window
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.evaluation.pairing import choose_lenders
from fantasytalking.media.audio import Audio, fit_length, load_audio
from fantasytalking.media.video import iterate_frames, probe_video, write_video
from fantasytalking.pipeline.inputs import SOUNDTRACK_RATE, ImageSource
from fantasytalking.system.files import atomic_path
from fantasytalking.system.json import read_json_object, write_json

__all__ = [
    "REFERENCE_CRF",
    "bad_files",
    "choose_donors",
    "cut_sound",
    "link_file",
    "portrait_of",
    "unusable",
    "write_reference",
]

REFERENCE_CRF = 4
"""H.264 quality of a cut reference: the loss is far below what any metric sees, at an acceptable size."""


def bad_files(cases: Iterable[Case], data: Path) -> dict[str, str]:
    """Find files that are missing or differ from those that the manifest lists.

    Args:
        cases: The cases; every file of theirs is read once and hashed.
        data: Folder that the names are relative to.

    Returns:
        Name of the file -> what is wrong, as a sentence.
    """
    found: dict[str, str] = {}
    seen: dict[str, str] = {}
    for name, expected in (item for case in cases for item in case.inputs.items()):
        path = data / name
        if not path.is_file():
            found[name] = f"There is no file '{path}'; give the manifest's data folder, and check that it is complete."
            continue
        try:
            seen[name] = seen.get(name) or file_digest(path)
        except InputError as error:
            found[name] = str(error)
            continue
        if seen[name] != expected:
            found[name] = (
                f"The file '{path}' is not the one that the manifest lists: its SHA-256 begins with {seen[name][:12]}, "
                f"{expected[:12]} is expected."
            )
    return found


def unusable(cases: Iterable[Case], bad: Mapping[str, str]) -> dict[str, str]:
    """Cases that use a bad file: name -> what is wrong with the file."""
    return {
        case.name: next(bad[f] for f in case.inputs if f in bad) for case in cases if bad.keys() & case.inputs.keys()
    }


def choose_donors(cases: Sequence[Case]) -> dict[str, Case]:
    """For each case another one whose speech it gets: never one of the same identity, never a shorter one.

    The choice is that of `pairing.choose_lenders`, the same in every run. A case without a possible donor is left out.
    """

    def suits(case: int, other: int) -> bool:
        longer = cases[other].speech.seconds >= cases[case].speech.seconds
        return longer and cases[other].identity != cases[case].identity

    lenders = choose_lenders([case.speech.seconds for case in cases], suits)
    return {cases[case].name: cases[lender] for case, lender in lenders.items()}


def portrait_of(case: Case, data: Path) -> ImageSource:
    """Path of the portrait, or the first frame uint8 [H, W, 3] of the reference.

    Raises:
        VideoError: The reference cannot be read.
        InputError: The reference ends before its window starts.
    """
    if case.portrait is not None:
        return data / case.portrait.file
    frames = iterate_frames(data / case.reference.file, None, 1, case.reference.start)
    frame = next(iter(frames), None)
    if frame is None:
        raise InputError(f"The clip '{case.reference.file}' shows nothing at second {case.reference.start:g}.")
    return frame


def cut_sound(window: Window, data: Path, seconds: float | None = None) -> Audio:
    """Read a stretch of sound, 48 kHz mono, of exactly the window's length; it is padded with silence where the file ends early.

    Args:
        window: File and time.
        data: Folder that the file's name is relative to.
        seconds: Another length; None takes the window's.

    Raises:
        AudioError: The file has no sound.
    """
    length = window.seconds if seconds is None else seconds
    # the pipeline checks for silence itself; a silent reference is no error
    sound = load_audio(
        data / window.file, SOUNDTRACK_RATE, min_seconds=0.0, start=window.start, seconds=length, allow_silent=True
    )
    return Audio(fit_length(sound.samples, round(length * SOUNDTRACK_RATE)), SOUNDTRACK_RATE)


def write_reference(case: Case, data: Path, folder: Path, looked_at: float) -> bool:
    """Write the real clip that a case is measured against, and a record of how it was made beside it.

    A window that starts with the file, and whose remainder nobody looks at, is the file itself, unchanged; any other is cut out and
    encoded again, nearly without loss. Where the case's speech comes from another time of the same file (which puts a clip in step that
    was published out of step), the reference gets that sound. A current clip is kept.

    Args:
        case: The case.
        data: Folder of the footage.
        folder: Folder for `CASE.mp4` (or the file's own suffix) and `CASE.json`.
        looked_at: Seconds of a clip that the protocol looks at.

    Returns:
        Whether it is cut from its file and encoded again.

    Raises:
        InputError: The window reaches beyond the end of the file.
        VideoError: The clip cannot be read.
        OutputError: The disk is full.
    """
    window, source = case.reference, data / case.reference.file
    info = probe_video(source)
    frame = 1.5 / float(info.fps)
    if window.start + window.seconds > info.seconds + frame:
        raise InputError(
            f"The clip '{source}' lasts {info.seconds:.2f} s, but {window.seconds:g} s from second {window.start:g} are asked for."
        )
    moved = case.audio is not None and case.audio.file == window.file and case.audio.start != window.start
    heard = case.audio if moved and case.audio is not None else window
    whole = not moved and window.start == 0 and (window.seconds >= looked_at or info.seconds <= window.seconds + frame)
    target, record = folder / f"{case.name}{source.suffix if whole else '.mp4'}", folder / f"{case.name}.json"
    made_as = {
        "window": asdict(window),
        "sound": asdict(heard),
        "unchanged": whole,
        "crf": None if whole else REFERENCE_CRF,
    }
    known = read_json_object(record)
    if known.get("made_as") == made_as and target.is_file() and known.get("sha256") == file_digest(target):
        return not whole
    for stale in (record, *folder.glob(f"{case.name}.*")):
        stale.unlink(missing_ok=True)
    if whole:
        link_file(source, target)
    else:
        count = max(1, round(window.seconds * float(info.fps)))
        sound = cut_sound(heard, data, window.seconds) if info.has_audio else None
        frames = iterate_frames(source, None, count, window.start)
        write_video(target, frames, info.fps, sound, overwrite=True, crf=REFERENCE_CRF)
    made = {"case": case.name, "made_as": made_as, "sha256": file_digest(target)}
    write_json(record, made, indent=1, ascii_only=False)
    return not whole


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name: by a hard link, or by a copy where the file system or the permissions allow no link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        with atomic_path(target, overwrite=True) as temporary:
            shutil.copyfile(source, temporary)
