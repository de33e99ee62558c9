"""Catalogues: files of JSON lines that say of each video who it shows, whether it is real, and under which terms it may be used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.system.json import numbered_lines, parse_json_row
from fantasytalking.system.records import closest_name, field, read_record, record

__all__ = ["CATALOGUE", "SPLITS", "CatalogueRow", "Kind", "read_catalogue"]

CATALOGUE = "catalogue.jsonl"
"""Name by which a catalogue is found in a folder."""
SPLITS = ("train", "val")
"""Splits whose clips are used; rows of any other split are left out."""

Kind = Literal["real", "generated"]

# what people write where one of SPLITS is meant; such rows would be left out without a word
_MISNAMED_SPLITS = {"training": "train", "valid": "val", "validation": "val"}
_MISSPELT = 0.8


@record
class CatalogueRow:
    """One row of a catalogue: where a video is and where it comes from."""

    file: Annotated[
        str, field("Path of the video, relative to the catalogue and below its folder; links are followed.")
    ]
    identity: Annotated[str, field("Name of the person that it shows.")]
    kind: Annotated[Kind, field("Whether it is footage of a person or the output of a model.")]
    split: Annotated[str, field("Split that it belongs to: train, val, or any other word to leave it out.")]
    source: Annotated[str, field("Where it comes from.")] = ""
    terms: Annotated[str, field("Its licence, or the terms under which it may be used.")] = ""

    def __post_init__(self) -> None:
        for name in ("file", "identity", "split"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} is empty; each row needs a file, an identity, a kind and a split.")
        place = PurePath(os.path.normpath(self.file))
        if place.is_absolute() or place.parts[:1] == ("..",):
            raise SettingsError(
                f"file must be a path below the folder of the catalogue, but {self.file!r} was given; move the video there, or put a "
                "link to it there and name the link."
            )
        plainly = self.split.strip().lower()
        meant = _MISNAMED_SPLITS.get(plainly, plainly)
        if meant in SPLITS and self.split != meant:
            raise SettingsError(
                f"split must be train or val, or another word for rows to leave out, but {self.split!r} was given; did you mean {meant!r}?"
            )


def read_catalogue(path: Path) -> list[CatalogueRow]:
    """Read a catalogue: one JSON object a line with the fields of `CatalogueRow`.

    Catalogues have columns of their own (size, length, notes): other keys are ignored, unless one is a misspelt name of a field
    that the row lacks. A null counts as left out. Rows of all splits are returned.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, cannot be read or has no row.
        SettingsError: A row is not a JSON object, lacks a field, or has a value that is not accepted; the sentence names file and line.
    """
    if not path.is_file():
        raise InputError(f"There is no catalogue at {path}; give the folder that holds {CATALOGUE}.")
    try:
        lines = numbered_lines(path)
    except (OSError, ValueError) as error:
        raise InputError(f"The catalogue {path} cannot be read ({error}); it is a text file in UTF-8.") from error
    rows = [_row(line, f"Line {number} of {path}") for number, line in lines]
    if not rows:
        raise InputError(f"The catalogue {path} is empty; give it one JSON object a line for each video.")
    return rows


def _row(line: str, where: str) -> CatalogueRow:
    row = parse_json_row(line, where, "each row is one JSON object")
    names = [known.name for known in fields(CatalogueRow)]
    given = {name: row[name] for name in names if row.get(name) is not None}
    _check_misspelt(row, [name for name in names if name not in given], where)
    return read_record(CatalogueRow, given, where)


def _check_misspelt(row: dict[str, Any], lacking: Iterable[str], where: str) -> None:
    others = [key for key in row if key not in CatalogueRow.__dataclass_fields__]
    for name in lacking:
        near = closest_name(name, others, _MISSPELT)
        if near:
            raise SettingsError(f"{where}: There is no field {near!r}; did you mean {name!r}?")
