"""The output folder of a benchmark: whether it may be used, its subfolders, and what a killed run left in it."""

from __future__ import annotations

from pathlib import Path

from fantasytalking.errors import OutputError
from fantasytalking.system.json import read_json_object

__all__ = ["check_output_folder", "open_output_folder"]


def check_output_folder(output: Path, name: str) -> None:
    """Check that a folder is new, empty, or that of an earlier run of the same benchmark; nothing is written.

    Args:
        output: The folder.
        name: Name of the benchmark.

    Raises:
        OutputError: It is a file, cannot be read, or holds something else.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"The output '{output}' is a file; give a folder.")
    try:
        # Hidden files are no content: an owner's mark, or what a file browser leaves.
        holds_something = output.is_dir() and any(not entry.name.startswith(".") for entry in output.iterdir())
    except OSError as error:
        raise OutputError(
            f"The output folder '{output}' cannot be read ({error.strerror}); choose another one."
        ) from error
    if holds_something:
        present = read_json_object(output / "manifest.json").get("name")
        if present != name:
            what = f"the benchmark '{present}'" if present else "other files"
            raise OutputError(
                f"The output folder '{output}' holds {what}; give a new folder, or that of an earlier '{name}'."
            )


def open_output_folder(output: Path) -> None:
    """Make the subfolders, and remove what a killed run left half-written; only the folder's owner may call it.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        for folder in (output / "references", output / "generated", output / "report"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output folder '{output}' cannot be made ({error.strerror}); choose another one."
        ) from error
    for part in output.rglob(".*.part*"):
        part.unlink(missing_ok=True)
