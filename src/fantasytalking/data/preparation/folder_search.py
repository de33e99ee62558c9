"""Search of a folder for videos and catalogues, which also counts what it passes over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fantasytalking.data.catalogue import CATALOGUE

__all__ = ["SUFFIXES", "FolderSearch"]

SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv"),
        *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".3gp", ".mxf"),
    )
)
"""Endings by which videos are found in folders; a file that is given by its own path may have any."""

_HIDDEN, _LINKED, _DEAD, _LOCKED = "hidden videos", "linked folders", "dead links", "unreadable folders"


@dataclass
class FolderSearch:
    """Searches folders to the bottom; links to files are followed, links to folders are not.

    Attributes:
        passed_over: How many hidden videos, linked folders, links that lead nowhere and folders that cannot be read were met.
    """

    passed_over: dict[str, int] = field(default_factory=dict)

    def videos_and_catalogues(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Find the videos and the catalogues of a folder, each sorted.

        Args:
            folder: The folder.
        """
        videos, catalogues = [], []
        for parent, folders, names in os.walk(folder, onerror=lambda _: self._count(_LOCKED)):
            here = Path(parent)
            for name in folders:
                if (here / name).is_symlink():
                    self._count(_LINKED)
            hidden = any(part.startswith(".") for part in here.relative_to(folder).parts)
            for path in (here / name for name in names):
                kind = _kind_of(path, hidden)
                if kind == "video":
                    videos.append(path)
                elif kind == "catalogue":
                    catalogues.append(path)
                elif kind:
                    self._count(kind)
        return sorted(videos), sorted(catalogues)

    def sentences(self) -> Iterable[str]:
        """A sentence for each kind of thing that was passed over: how many there are, and how to use them."""
        ways = {
            _HIDDEN: ("hidden video", "give it by its own path to use it"),
            _LINKED: ("link to a folder", "give the folder itself to search it"),
            _DEAD: ("link that leads nowhere", "restore the file that it names to use it"),
            _LOCKED: ("folder that cannot be read", "change its permissions to search it"),
        }
        for kind, (what, way) in ways.items():
            if self.passed_over.get(kind):
                yield f"Passed over: {self.passed_over[kind]} x {what}; {way}."

    def _count(self, kind: str) -> None:
        self.passed_over[kind] = self.passed_over.get(kind, 0) + 1


def _kind_of(path: Path, hidden: bool) -> str:
    """What a file is: "video", "catalogue", a kind of thing that is passed over, or "" for anything else."""
    # a link without an ending may stand for a folder
    wanted = path.suffix.lower() in SUFFIXES or path.name == CATALOGUE or (path.is_symlink() and not path.suffix)
    if not wanted:
        return ""
    if not path.exists():
        return _DEAD
    if not path.is_file() or (path.name != CATALOGUE and path.suffix.lower() not in SUFFIXES):
        return ""
    if hidden or path.name.startswith("."):
        return _HIDDEN if path.name != CATALOGUE else ""
    return "catalogue" if path.name == CATALOGUE else "video"
