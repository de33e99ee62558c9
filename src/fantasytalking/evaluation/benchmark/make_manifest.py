"""A manifest from a folder of real videos: clips chosen by seed and hashed; those without face or voice, or with a frozen
picture, are skipped with the reason.

The choice depends on names and seed alone: the place of each file in the order follows from a hash of both, so adding or removing a
file does not move the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fantasytalking.errors import FaceError, FantasyTalkingError, InputError, VideoError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case, Manifest, MethodSpec, Window, check_file
from fantasytalking.evaluation.benchmark.case_inputs import cut_sound
from fantasytalking.evaluation.benchmark.clip_choice import ClipChoice, Group, find_sources
from fantasytalking.evaluation.clip_facts import frozen_in_window
from fantasytalking.evaluation.footage import file_digest
from fantasytalking.media.audio import is_silent
from fantasytalking.media.video import iterate_frames, probe_video
from fantasytalking.perception.faces import MIN_FACE_SIZE, detect_faces, face_length
from fantasytalking.pipeline.progress import Progress
from fantasytalking.system.digests import fraction_of

__all__ = ["ChosenClips", "ClipChoice", "Group", "make_manifest"]

STEP = 0.04
"""Windows start on a grid of this many seconds, a frame at 25 a second."""
LOOKS = (0.0, 0.25, 0.5, 0.75, 0.95)
"""Places in a window where a face is looked for, as shares of its length."""


@dataclass(frozen=True)
class ChosenClips:
    """A manifest and the files that were skipped.

    Attributes:
        manifest: The manifest, not yet saved.
        data: Folder that its names are relative to.
        skipped: Name of each file that was looked at and could not be used -> why.
    """

    manifest: Manifest
    data: Path
    skipped: dict[str, str]


def make_manifest(videos: Sequence[Path], name: str, choice: ClipChoice, progress: Progress) -> ChosenClips:
    """Choose clips and describe them.

    Args:
        videos: Files, and folders that are searched.
        name: Name of the manifest.
        choice: Rules of the choice.
        progress: Shows the progress.

    Raises:
        InputError: There is no video, or none that can be used.
    """
    data, found = find_sources(videos)
    order = sorted(found, key=lambda path: _place_in_order(choice.seed, "file", path.relative_to(data).as_posix()))
    cases: list[Case] = []
    skipped: dict[str, str] = {}
    taken: set[str] = set()
    with progress.stage("choosing", min(choice.clips, len(order))) as advance:
        for path in order:
            relative = path.relative_to(data).as_posix()
            identity = _identity(relative, choice.one_per)
            if identity in taken:
                continue
            try:
                case = _case(path, relative, identity, choice, {case.name for case in cases})
            except FantasyTalkingError as error:
                skipped[relative] = str(error)
                continue
            cases.append(case)
            taken.add(identity)
            advance()
            if len(cases) == choice.clips:
                break
    if not cases:
        reasons = "; ".join(f"{file}: {why}" for file, why in list(skipped.items())[:3])
        raise InputError(f"None of {len(order)} videos can be used ({reasons}); give others, or fewer --seconds.")
    cases.sort(key=lambda case: case.name)
    kinds: tuple[Literal["own", "other"], ...] = (
        ("own", "other") if len({case.identity for case in cases}) > 1 else ("own",)
    )
    manifest = Manifest(
        name=name,
        description=f"{len(cases)} clips of {choice.seconds:g} s, chosen with seed {choice.seed} from {len(order)} videos.",
        terms="Those of the footage, which is not part of this file.",
        cases=tuple(cases),
        methods=tuple(_method(kind, choice) for kind in kinds),
        expectations=(),
    )
    return ChosenClips(manifest, data, skipped)


def _place_in_order(seed: int, what: str, name: str) -> float:
    """A number in [0, 1) that is a pure function of its arguments, on every machine and Python."""
    return fraction_of(f"{seed}/{what}/{name}")


def _identity(relative: str, one_per: Group | None) -> str:
    folder, _, file = relative.rpartition("/")
    if one_per == "folder":
        return folder or "."
    stem = file.rpartition(".")[0]
    return re.sub(r"(?<=.)[_-][^_-]*$", "", stem) if one_per == "prefix" else relative.rpartition(".")[0]


def _case(path: Path, relative: str, identity: str, choice: ClipChoice, names: set[str]) -> Case:
    """Describe a file as a case.

    Raises:
        InputError: It is too short, without sound, silent, frozen, or without a face.
    """
    try:
        check_file(relative)
    except ValueError as error:
        raise InputError(f"Its name {error} Rename it.") from error
    info = probe_video(path)
    if info.seconds < choice.seconds - 1e-6:
        raise VideoError(f"It lasts {info.seconds:.2f} s, and {choice.seconds:g} s are wanted.")
    if not info.has_audio:
        raise VideoError("It has no sound.")
    room = int((info.seconds - choice.seconds) / STEP + 1e-6)
    start = round(int(_place_in_order(choice.seed, "start", relative) * (room + 1)) * STEP, 2)
    window = Window(relative, file_digest(path), start, choice.seconds)
    sound = cut_sound(window, path.parents[relative.count("/")])
    if is_silent(sound.samples, sound.sample_rate):
        raise VideoError(f"It is silent from second {start:g} on.")
    for frame in _looks(path, start, choice.seconds):
        faces = detect_faces(frame)
        length = face_length(frame, faces[0]) if faces else 0.0
        if length < MIN_FACE_SIZE:
            seen = f"a face of {length:.0f} pixels" if faces else "no face"
            raise FaceError(f"A frame between second {start:g} and {start + choice.seconds:g} shows {seen}.")
    frozen = frozen_in_window(path, start, choice.seconds, sound)
    if frozen:
        raise VideoError(
            f"Its picture is frozen for {frozen:.1f} of the {choice.seconds:g} s from second {start:g} on, while there is sound."
        )
    fps: dict[str, Any] = {} if choice.fps is None else {"fps": choice.fps}
    return Case(_case_name(relative, names), identity, window, None, None, "", {"seed": choice.seed, **fps})


def _looks(path: Path, start: float, seconds: float) -> Iterator[Any]:
    for share in LOOKS:
        yield from iterate_frames(path, None, 1, start + share * seconds)


def _case_name(relative: str, names: set[str]) -> str:
    """A name of letters, digits, `_` and `-` that no other case has."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", relative.rpartition(".")[0]).strip("-_") or "clip"
    taken = {name.casefold() for name in names}
    name, count = plain, 1
    while name.casefold() in taken:
        count += 1
        name = f"{plain}-{count}"
    return name


def _method(kind: Literal["own", "other"], choice: ClipChoice) -> MethodSpec:
    label = choice.model if re.fullmatch(r"[A-Za-z0-9_-]+", choice.model) else "model"
    note = {
        "own": "driven by the clip's own speech",
        "other": "driven by another person's speech: what is left is not lip sync",
    }
    return MethodSpec(f"{label}-{kind}-speech", choice.model, {}, kind, note[kind])
