"""Which videos a preparation is about: files, folders and catalogues, in a stable order and under stable names."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fantasytalking.data.face_tracks import ClipInfo, read_catalogue
from fantasytalking.data.preparation.clip_records import SourceVideo
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.system.digests import fraction_of

__all__ = ["CATALOGUE", "SUFFIXES", "ListedVideo", "find_videos", "fingerprint"]

CATALOGUE = "catalogue.jsonl"
SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".flv",
        ".wmv",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".ogv",
        ".3gp",
        ".mxf",
    ],
)
"""Endings by which videos are found in folders; a file that is named itself may have any."""
# with the clip's number and the longest ending a name stays below the 100 characters of a plain tar header
_LONGEST_KEY = 72
_SAMPLED = 1 << 16


@dataclass(frozen=True)
class ListedVideo:
    """A video to prepare.

    Attributes:
        video: what the stages need of it.
        name: its path below the folder that was given, for provenance: the same wherever the folder lies.
        fingerprint: of its content, see `fingerprint`; empty where there is no such file.
    """

    video: SourceVideo
    name: str
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """What a run is recognised by: everything but the place of the file."""
        known = asdict(self.video)
        del known["path"]
        return {**known, "name": self.name, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class _Candidate:
    path: Path
    name: str
    row: ClipInfo | None


def find_videos(
    places: Sequence[Path], identity: Literal["stem", "folder"] = "stem", val_share: float = 0.0
) -> list[ListedVideo]:
    """List the videos of files, folders (searched to the bottom) and catalogues, each file once, sorted by key.

    A folder with a catalogue gives the videos that the catalogue names as it describes them; rows of another split than "train" and
    "val" are left out. A video that no catalogue names is of kind "real", of split "train" and of unknown terms.

    Args:
        places: files, folders, `catalogue.jsonl` files.
        identity: whom a video without a row shows: the name of the file, or that of its folder.
        val_share: share of the identities without a row that becomes the split "val", chosen by a hash of the name.

    Raises:
        InputError: a place does not exist, a catalogue cannot be used, or nothing is found.
        SettingsError: val_share is not within 0 to 0.9.
    """
    if not 0 <= val_share <= 0.9:
        raise SettingsError(f"val_share is a number from 0 to 0.9, but {val_share!r} was given.")
    found: dict[str, _Candidate] = {}
    for place in places:
        for candidate in _at(place.expanduser()):
            real = os.path.realpath(candidate.path)
            # a row says more than a file that was merely found
            if real not in found or (found[real].row is None and candidate.row is not None):
                found[real] = candidate
    wanted = [c for c in found.values() if c.row is None or c.row.split in ("train", "val")]
    if not wanted:
        shown = ", ".join(f"'{place}'" for place in places)
        raise InputError(
            f"There is no video in {shown or 'nothing'}; give video files, folders that hold some "
            f"({' '.join(sorted(SUFFIXES)[:4])} and others) or a {CATALOGUE}."
        )
    described = [_describe(candidate, identity, val_share) for candidate in wanted]
    listed = [
        ListedVideo(video, c.name, fingerprint(c.path))
        for video, c in zip(_keyed(described, wanted), wanted, strict=True)
    ]
    return sorted(listed, key=lambda item: item.video.key)


def fingerprint(path: Path) -> str:
    """Hash of a file's size, beginning and end (64 KiB each): cheap for any length, and another for a file that was replaced."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            digest = hashlib.sha256(str(size).encode() + file.read(_SAMPLED))
            file.seek(max(0, size - _SAMPLED))
            digest.update(file.read(_SAMPLED))
    except OSError:
        return ""
    return digest.hexdigest()[:32]


def _at(place: Path) -> Iterable[_Candidate]:
    if place.is_dir():
        return _in_folder(place)
    if not place.exists():
        raise InputError(f"There is no video, folder or catalogue '{place}'; check the path.")
    if place.suffix == ".jsonl":
        return _in_catalogue(place, place.parent)
    return [_Candidate(place, place.name, None)]


def _in_folder(folder: Path) -> Iterable[_Candidate]:
    for catalogue in sorted(folder.rglob(CATALOGUE)):
        yield from _in_catalogue(catalogue, folder)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield _Candidate(path, path.relative_to(folder).as_posix(), None)


def _in_catalogue(catalogue: Path, root: Path) -> Iterable[_Candidate]:
    for row in read_catalogue(catalogue):
        path = catalogue.parent / row.file
        # a file that lies elsewhere is known by its last folder: where that lies is nobody's business
        plain = Path(os.path.normpath(path))
        inside = plain.is_relative_to(os.path.normpath(root))
        name = plain.relative_to(os.path.normpath(root)) if inside else Path(*plain.parts[-2:])
        yield _Candidate(path, name.as_posix(), row)


def _describe(candidate: _Candidate, identity: str, val_share: float) -> SourceVideo:
    path, row = str(candidate.path.absolute()), candidate.row
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", str(Path(candidate.name).with_suffix(""))).strip("_-") or "video"
    if row is not None:
        return SourceVideo(path, key, row.identity, row.kind, row.split, row.source, row.terms or "unknown")
    who = candidate.path.absolute().parent.name if identity == "folder" else candidate.path.stem
    split = "val" if fraction_of(who) < val_share else "train"
    return SourceVideo(path, key, who, "real", split, "", "unknown")


def _keyed(videos: Sequence[SourceVideo], candidates: Sequence[_Candidate]) -> list[SourceVideo]:
    """Keys made unique, also where a file system does not tell capitals apart, and short enough for a tar header."""
    count = Counter(video.key.lower() for video in videos)
    taken: set[str] = set()
    keyed = []
    for video, candidate in zip(videos, candidates, strict=True):
        key = video.key
        if count[key.lower()] > 1 or len(key) > _LONGEST_KEY:
            mark = hashlib.sha256(candidate.name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
            key = f"{key[: _LONGEST_KEY - 9]}_{mark}"
        unique, number = key, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{key}_{number}"
        taken.add(unique.lower())
        keyed.append(replace(video, key=unique))
    return keyed
