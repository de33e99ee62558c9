"""Which generated file belongs to which real clip, and which files belong to nothing: everything by name, nothing silently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.results import Problem

__all__ = ["GROUND_TRUTH", "SHUFFLED", "STILL", "Task", "find_videos", "pair_clips", "shuffled_sounds"]

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
GROUND_TRUTH = "ground truth"
STILL = "still image"
SHUFFLED = "ground truth, other sound"
NOTES = {
    GROUND_TRUTH: "the real clips against themselves",
    STILL: "first frame of the real clip, repeated, with its sound",
    SHUFFLED: "the real clips with the sound of another one",
}


@dataclass(frozen=True)
class Task:
    """One clip of one method to measure.

    Attributes:
        method, clip: names.
        video: whose picture is measured.
        reference: the real clip.
        sound: whose sound is heard with the picture.
        still: whether the first frame is repeated instead of what follows it.
    """

    method: str
    clip: str
    video: Path
    reference: Path
    sound: Path
    still: bool = False


def find_videos(folder: Path, what: str) -> dict[str, Path]:
    """Videos of a folder and its subfolders by the path without suffix; hidden files are left out.

    Raises:
        InputError: no such folder, no video in it, or two with one name.
    """
    if folder.is_file():
        raise InputError(f"The {what} folder '{folder}' is a file; give the folder that holds it.")
    if not folder.is_dir():
        raise InputError(f"The {what} folder '{folder}' does not exist; give a folder of videos.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        local = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in local.parts):
            continue
        name = local.with_suffix("").as_posix()
        if name in found:
            raise InputError(f"The {what} folder '{folder}' has two videos called '{name}'; keep one of them.")
        found[name] = path
    if not found:
        raise InputError(f"The {what} folder '{folder}' holds no video ({', '.join(SUFFIXES)}); give another one.")
    return found


def pair_clips(methods: Mapping[str, Path], reference: Path) -> tuple[list[Task], list[Problem]]:
    """Pair the files of every method with the real clips of the same name.

    Returns:
        Tasks, ground truth first, and a problem for each file that has no counterpart.

    Raises:
        InputError: a folder cannot be used, or a method shares no name with the reference.
    """
    real = find_videos(reference, "reference")
    tasks = [Task(GROUND_TRUTH, name, path, path, path) for name, path in real.items()]
    problems = []
    for method, folder in methods.items():
        if method in NOTES:
            raise InputError(f"'{method}' is the name of a row of its own; call the method something else.")
        made = find_videos(folder, "generated")
        common = [name for name in real if name in made]
        if not common:
            examples = f"'{next(iter(made))}' and '{next(iter(real))}'"
            raise InputError(
                f"No file in '{folder}' has the name of a real clip in '{reference}' (there are {examples}, for instance); "
                "files are paired by their names without suffix."
            )
        tasks += [Task(method, name, made[name], real[name], made[name]) for name in common]
        for name in sorted(set(real) - set(made)):
            problems.append(Problem(method, name, str(real[name]), "There is no generated video of this clip."))
        for name in sorted(set(made) - set(real)):
            problems.append(
                Problem(method, name, str(made[name]), "There is no real clip of this name, so it was not used.")
            )
    return tasks, problems


def shuffled_sounds(sounds: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    """For each clip another one whose sound it gets: a fixed choice, the first that fits before it in order of falling length.

    A clip thus gets a longer sound than its own, but for the longest, which gets the shortest one's. Sets of generated clips often have
    one sound under several faces: such a clip is passed over, and one that has no other sound to get is left out.

    Args:
        sounds: clip -> its sound [n].
    """
    order = sorted(sounds, key=lambda name: (-len(sounds[name]), name))
    found = {}
    for place, name in enumerate(order):
        others = [order[place - back] for back in range(1, len(order))]
        other = next((o for o in others if not _same_sound(sounds[name], sounds[o])), None)
        if other is not None:
            found[name] = other
    return found


def _same_sound(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    length = min(len(first), len(second))
    a, b = (np.asarray(sound[:length], np.float64) for sound in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    # Of two recordings this is about 0, of one recording encoded twice about 1; two silent clips sound alike as well.
    return norm < 1e-12 or abs(float(a @ b)) / norm > 0.5
