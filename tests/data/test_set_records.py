"""The records of catalogues and prepared sets, and the page that lists their fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.data.catalogue import CatalogueRow
from fantasytalking.data.set_records import CLIPS, MANIFEST, ClipRow, read_clips, read_manifest
from fantasytalking.errors import InputError
from fantasytalking.system.records import describe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-preparation.md"


def table(kind: type[Any]) -> str:
    """The fields of a record as a table of the page; `measures` collects what has no field of its own."""
    rows = ["| field | accepts | meaning |", "|---|---|---|"]
    for known in describe(kind):
        accepted = known.accepted.replace("another value", "3 whole numbers")
        unit = f" ({known.unit})" if known.unit else ""
        rows += [f"| `{known.name}` | {accepted}{unit} | {known.help} |"] if known.name != "measures" else []
    return "\n".join(rows)


@pytest.mark.parametrize("kind", [CatalogueRow, ClipRow])
def test_the_page_lists_the_fields_of_catalogues_and_clips(kind: type[Any]) -> None:
    assert table(kind) in PAGE.read_text(), f"the table of {kind.__name__} in {PAGE.name} is now:\n{table(kind)}"


def test_what_has_no_field_of_its_own_is_a_measure(tmp_path: Path) -> None:
    row = {"key": "a-0000", "kept": True, "split": "train", "latent_size": [3, 8, 6], "start": 1, "face_width": 80.5}
    (tmp_path / CLIPS).write_text(json.dumps(row) + "\n\n")
    (found,) = read_clips(tmp_path)
    assert found == ClipRow("a-0000", True, "train", start=1.0, latent_size=(3, 8, 6), measures={"face_width": 80.5})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"key": "a", "split": "train"}', "Line 2 of .*: kept is missing .true or false.; give it"),
        ('{"key": "a", "kept": 1, "split": "train"}', "kept must be true or false, but 1 was given"),
        ('{"key": "a", "kept": true, "split": "train", "start": -1}', "start must be a number of at least 0 .seconds."),
        ("[]", "Line 2 of .* must be a JSON object, but \\[\\] was given; the set is damaged: give the command"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / CLIPS).write_text('{"key": "b", "kept": true, "split": "val"}\n' + line + "\n")
    with pytest.raises(InputError, match=reason):
        read_clips(tmp_path)


def test_a_folder_without_a_manifest_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no prepared set"):
        read_manifest(tmp_path)
    (tmp_path / "work").mkdir()
    with pytest.raises(InputError, match="is not finished"):
        read_manifest(tmp_path)
    for content in (b"{", b"[1]", b"{}"):
        (tmp_path / MANIFEST).write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            read_manifest(tmp_path)
