"""Pairing of generated files with real clips by their names; every file without a counterpart is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.results import SHUFFLED, Problem

__all__ = [
    "GROUND_TRUTH",
    "SHUFFLED",
    "STILL",
    "Task",
    "choose_lenders",
    "clips_of_all_methods",
    "find_videos",
    "pair_clips",
    "shuffled_sounds",
]

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
GROUND_TRUTH = "ground truth"
STILL = "still image"
NOTES = {
    GROUND_TRUTH: "the real clips against themselves",
    STILL: "first frame of the real clip, repeated, with its sound",
    SHUFFLED: "the real clips with the sound of another one",
}


@dataclass(frozen=True)
class Task:
    """One clip of one method to measure.

    Attributes:
        method: Name of the method.
        clip: Name of the clip.
        video: File whose frames are measured.
        reference: File of the real clip.
        sound: File whose sound goes with the frames.
        still: Whether the first frame is repeated in place of the following ones.
    """

    method: str
    clip: str
    video: Path
    reference: Path
    sound: Path
    still: bool = False


def find_videos(folder: Path, what: str) -> dict[str, Path]:
    """Find the videos of a folder and its subfolders; hidden files are left out.

    Args:
        folder: The folder.
        what: Description of the folder for messages, such as "reference".

    Returns:
        Path relative to the folder, without suffix -> path.

    Raises:
        InputError: The folder does not exist, holds no video, or holds two with the same name.
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

    Args:
        methods: Name in the table -> folder of generated videos.
        reference: Folder of the real clips.

    Returns:
        Tasks, ground truth first, and a problem for each file that has no counterpart.

    Raises:
        InputError: A folder cannot be used, or a method shares no name with the reference.
    """
    real = find_videos(reference, "reference")
    tasks = [Task(GROUND_TRUTH, name, path, path, path) for name, path in real.items()]
    problems = []
    for method, folder in methods.items():
        if method in NOTES:
            raise InputError(f"'{method}' is the name of a row of its own; give the method another name.")
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
        folded = {name.casefold(): name for name in real}
        for name in sorted(set(made) - set(real)):
            near = folded.get(name.casefold())
            hint = f"; the real clip '{near}' differs in capitals, give both one name" if near else ""
            reason = f"There is no real clip of this name, so it was not used{hint}."
            problems.append(Problem(method, name, str(made[name]), reason))
    return tasks, problems


def clips_of_all_methods(tasks: Sequence[Task]) -> list[Task]:
    """The tasks of those clips of which every method has a file, as no other counts in the table; all of them if there is no such clip."""
    methods: dict[str, set[str]] = {}
    for task in tasks:
        methods.setdefault(task.method, set()).add(task.clip)
    common = set.intersection(*methods.values()) if methods else set()
    return [task for task in tasks if task.clip in common] if common else list(tasks)


def choose_lenders(lengths: Sequence[float], suits: Callable[[int, int], bool]) -> dict[int, int]:
    """Choose for each clip another one that lends it its sound; the choice is the same in every run.

    Clips are sorted by decreasing length. Each takes the nearest suitable clip before it, wrapping around at the start; among clips of
    equal length this is a rotation. Every clip but the longest thus gets a sound at least as long as its own.

    Args:
        lengths: Length of each clip's sound, in any unit.
        suits: Function of the indices of a clip and of a possible lender that says whether the lender is suitable.

    Returns:
        Index of a clip -> index of its lender, by decreasing length; a clip without a suitable lender is left out.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    lenders = {}
    for place, clip in enumerate(order):
        others = (order[(place - back) % len(order)] for back in range(1, len(order)))
        lender = next((other for other in others if suits(clip, other)), None)
        if lender is not None:
            lenders[clip] = lender
    return lenders


def shuffled_sounds(sounds: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    """Choose for each clip the one whose sound it gets in the baseline of shuffled sounds, see `choose_lenders`.

    Sets of generated clips often have the same sound under several faces: clips with the same sound do not lend it to each other, and a
    clip that finds no other sound is left out.

    Args:
        sounds: Name of a clip -> its sound [n].
    """
    names = sorted(sounds)

    def suits(clip: int, other: int) -> bool:
        return not _same_sound(sounds[names[clip]], sounds[names[other]])

    lenders = choose_lenders([len(sounds[name]) for name in names], suits)
    return {names[clip]: names[lender] for clip, lender in lenders.items()}


def _same_sound(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    length = min(len(first), len(second))
    a, b = (np.asarray(sound[:length], np.float64) for sound in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    # About 0 for two recordings, about 1 for one recording encoded twice; two silent clips also count as the same.
    return norm < 1e-12 or abs(float(a @ b)) / norm > 0.5
