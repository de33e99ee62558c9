"""Where a set may be written: outside of the folders that are searched for videos, of other sets and of training runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fantasytalking.data.set_records import MANIFEST
from fantasytalking.errors import OutputError
from fantasytalking.system.json import read_json

__all__ = ["check_place"]


def check_place(output: Path, places: Sequence[Path]) -> None:
    """Check where a set is to be written.

    Args:
        output: Folder of the set.
        places: Videos, folders and catalogues that are prepared.

    Raises:
        OutputError: It lies in a folder that is searched for videos, in another prepared set, or in the folder of a training run.
    """
    real = Path(os.path.realpath(output.expanduser()))
    for place in places:
        folder = Path(os.path.realpath(place.expanduser()))
        if folder.is_dir() and real.is_relative_to(folder):
            raise OutputError(
                f"The output '{output}' lies in '{place}', which is searched for videos; choose an --output outside of it."
            )
    for folder in real.parents:
        what = _owner_of(folder)
        if what:
            raise OutputError(f"The output '{output}' lies in {what} ('{folder}'); choose an --output outside of it.")


def _owner_of(folder: Path) -> str:
    manifest, run = read_json(folder / MANIFEST), read_json(folder / "work" / "run.json")
    if any(isinstance(found, dict) and "schema" in found for found in (manifest, run)):
        return "another prepared set"
    # the names are those of `training.trainer.run_folder`, which this part must not import
    if (folder / "config.json").is_file() and any((folder / name).is_file() for name in ("log.jsonl", "starts.jsonl")):
        return "the folder of a training run"
    return ""
