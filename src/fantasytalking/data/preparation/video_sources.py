"""Source videos of a preparation: files, folders and catalogues, in a stable order and under stable names."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fantasytalking.data.catalogue import CATALOGUE, SPLITS, CatalogueRow, read_catalogue
from fantasytalking.data.preparation.clip_records import SourceVideo
from fantasytalking.data.preparation.folder_search import SUFFIXES, FolderSearch
from fantasytalking.data.preparation.preparation_settings import IdentityFrom
from fantasytalking.errors import InputError
from fantasytalking.system.digests import file_fingerprint, fraction_of

__all__ = ["ListedVideo", "check_exists", "find_videos"]

# with the clip's number and the longest ending, a name fits the 100 characters of a plain tar header
_LONGEST_KEY = 72


@dataclass(frozen=True)
class ListedVideo:
    """A video to prepare.

    Attributes:
        video: The video as the stages see it.
        name: Path below the folder that was given, for provenance: independent of where the folder is.
        fingerprint: Hash of its content, see `file_fingerprint`; empty if there is no such file.
    """

    video: SourceVideo
    name: str
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        """Everything that identifies the video in a plan: all fields but the location of the file."""
        known = asdict(self.video)
        del known["path"]
        return {**known, "name": self.name, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class _Candidate:
    path: Path
    name: str
    row: CatalogueRow | None


def find_videos(
    places: Sequence[Path],
    identity: IdentityFrom = "stem",
    val_share: float = 0.0,
    seed: int = 0,
    search: FolderSearch | None = None,
) -> list[ListedVideo]:
    """List the videos of files, folders (searched recursively) and catalogues, each file once, sorted by key.

    Videos that a catalogue in a folder names are described by their rows; rows of a split other than "train" and "val" are left
    out. A video without a row is of kind "real", of split "train" (or "val", see `val_share`) and of unknown terms.

    Args:
        places: Files, folders, `catalogue.jsonl` files.
        identity: Name of the person in a video without a row: that of its file, or of its folder.
        val_share: Share of the identities without a row that go into the split "val", 0 to 0.9, chosen by a hash of the name.
        seed: Of that choice.
        search: Counts what is passed over; None counts nothing.

    Raises:
        InputError: A place does not exist, a catalogue cannot be used, or no video is found.
        SettingsError: A row of a catalogue is not valid.
    """
    search = search or FolderSearch()
    found: dict[str, _Candidate] = {}
    for place in places:
        for candidate in _at(place.expanduser(), search):
            real = os.path.realpath(candidate.path)
            # a row says more than a file that was found in a folder
            if real not in found or (found[real].row is None and candidate.row is not None):
                found[real] = candidate
    wanted = [c for c in found.values() if c.row is None or c.row.split in SPLITS]
    if not wanted:
        shown = ", ".join(f"'{place}'" for place in places)
        raise InputError(
            f"There is no video in {shown or 'nothing'}; give video files, folders that hold some "
            f"({' '.join(sorted(SUFFIXES)[:4])} and others) or a {CATALOGUE}.{''.join(f' {told}' for told in search.sentences())}"
        )
    described = [_describe(candidate, identity, val_share, seed) for candidate in wanted]
    listed = [
        ListedVideo(video, c.name, file_fingerprint(c.path))
        for video, c in zip(_keyed(described, wanted), wanted, strict=True)
    ]
    return sorted(listed, key=lambda item: item.video.key)


def check_exists(place: Path) -> None:
    """Check that there is something at a path.

    Raises:
        InputError: There is nothing.
    """
    if not place.expanduser().exists():
        raise InputError(f"There is no video, folder or catalogue '{place}'; check the path.")


def _at(place: Path, search: FolderSearch) -> Iterable[_Candidate]:
    if place.is_dir():
        return _in_folder(place, search)
    check_exists(place)
    if place.suffix == ".jsonl":
        return _in_catalogue(place, place.parent)
    return [_Candidate(place, place.name, None)]


def _in_folder(folder: Path, search: FolderSearch) -> Iterable[_Candidate]:
    videos, catalogues = search.videos_and_catalogues(folder)
    for catalogue in catalogues:
        yield from _in_catalogue(catalogue, folder)
    for path in videos:
        yield _Candidate(path, path.relative_to(folder).as_posix(), None)


def _in_catalogue(catalogue: Path, root: Path) -> Iterable[_Candidate]:
    for row in read_catalogue(catalogue):
        # a row names no file outside of the catalogue's folder
        path = Path(os.path.normpath(catalogue.parent / row.file))
        yield _Candidate(path, path.relative_to(os.path.normpath(root)).as_posix(), row)


def _describe(candidate: _Candidate, identity: IdentityFrom, val_share: float, seed: int) -> SourceVideo:
    path, row = str(candidate.path.absolute()), candidate.row
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", str(Path(candidate.name).with_suffix(""))).strip("_-") or "video"
    if row is not None:
        return SourceVideo(path, key, row.identity, row.kind, row.split, row.source, row.terms or "unknown")
    who = candidate.path.absolute().parent.name if identity == "folder" else candidate.path.stem
    # the seed was without effect once, so 0 gives the choice that sets of that time were made with
    split = "val" if fraction_of(f"{seed} {who}" if seed else who) < val_share else "train"
    return SourceVideo(path, key, who, "real", split, "", "unknown")


def _keyed(videos: Sequence[SourceVideo], candidates: Sequence[_Candidate]) -> list[SourceVideo]:
    """Make keys unique, also on file systems that ignore capitals, and short enough for a tar header."""
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
