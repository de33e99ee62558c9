"""Rules by which clips of a manifest are chosen, and the files that they are chosen from; needs no framework."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.evaluation.pairing import SUFFIXES
from fantasytalking.pipeline.settings import GenerationSettings

__all__ = ["ClipChoice", "Group", "find_sources"]

Group = Literal["folder", "prefix"]


@dataclass(frozen=True)
class ClipChoice:
    """Rules by which clips are chosen.

    Attributes:
        clips: Maximum number of clips.
        seconds: Length of a clip.
        seed: Seed of the choice of files and windows.
        fps: Frame rate of the generated videos; None takes each model's own.
        one_per: At most one clip from each folder, or from files whose names are equal up to the last `_` or `-` (`anna_1`,
            `anna_2`), where those tell people apart; None takes every file for another person.
        model: Model of the manifest's methods: `embedded`, a folder, a repository on the hub, or `$NAME`.
    """

    clips: int = 50
    seconds: float = 5.0
    seed: int = 0
    fps: float | None = None
    one_per: Group | None = None
    model: str = "embedded"

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise SettingsError(f"--clips must be at least 1, but {self.clips} was given.")
        if not 0.2 <= self.seconds <= 3600:
            raise SettingsError(f"--seconds must be from 0.2 to 3600, but {self.seconds:g} was given.")
        if self.fps is not None:
            GenerationSettings.create({"fps": self.fps})


def find_sources(videos: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Find video files, and the folder that all of them lie in.

    Args:
        videos: Files, and folders that are searched; hidden files are left out.

    Raises:
        InputError: One does not exist, or there is no video.
    """
    found: list[Path] = []
    roots: list[Path] = []
    for given in videos:
        path = given.expanduser().absolute()
        if not path.exists():
            raise InputError(f"There is no video or folder '{given}'; check the path.")
        roots.append(path if path.is_dir() else path.parent)
        inside = (
            [p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
        )
        found += [p for p in inside if not any(part.startswith(".") for part in p.relative_to(roots[-1]).parts)]
    if not found:
        raise InputError(f"There is no video in {', '.join(map(str, videos))}; known are {', '.join(SUFFIXES)}.")
    return Path(os.path.commonpath(roots)), sorted(set(found))
