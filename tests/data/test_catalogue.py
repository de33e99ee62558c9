"""Catalogues: one check for every reader of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.data.catalogue import CatalogueRow, read_catalogue
from fantasytalking.errors import InputError, SettingsError

ROW = {"file": "a.mp4", "identity": "one", "kind": "real", "split": "train"}


def write(folder: Path, *lines: str) -> Path:
    path = folder / "catalogue.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_catalogue_is_read_and_other_keys_are_ignored(tmp_path: Path) -> None:
    other = {"seconds": 3, "face_px": 120, "notes": ["cut"], "source_url": "y"}
    path = write(tmp_path, json.dumps(ROW), "", json.dumps(ROW | other | {"file": "b.mp4", "source": "x"}))
    assert read_catalogue(path) == [
        CatalogueRow("a.mp4", "one", "real", "train"),
        CatalogueRow("b.mp4", "one", "real", "train", "x"),
    ]


def test_a_catalogue_of_a_windows_editor_and_with_other_separators_in_its_texts_is_read(tmp_path: Path) -> None:
    line = json.dumps(ROW | {"identity": "one\u2028two"}, ensure_ascii=False)
    path = tmp_path / "catalogue.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{line}\r\n".encode())
    assert [row.identity for row in read_catalogue(path)] == ["one\u2028two"] * 2


def test_a_null_counts_as_left_out_and_other_splits_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(ROW | {"split": "test", "source": None, "terms": None}))
    assert read_catalogue(path) == [CatalogueRow("a.mp4", "one", "real", "test")]


def test_a_missing_catalogue_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no catalogue at .*catalogue.jsonl; give the folder"):
        read_catalogue(tmp_path / "catalogue.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file": "b.mp4", "kind": "real", "split": "val"}', "Line 2 of .*catalogue.jsonl: identity is missing"),
        ('{"file": "b.mp4", "identity": "a", "kind": "real"}', "Line 2 .*: split is missing"),
        ("{broken", "Line 2 .* is not JSON"),
        ("[1, 2]", "Line 2 .* must be a JSON object, but .1, 2. was given; each row is one JSON object"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_catalogue(write(tmp_path, json.dumps(ROW), line))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "Real"}, "kind must be real or generated, but 'Real' was given; did you mean 'real'?"),
        ({"kind": "gennerated"}, "kind must be real or generated, but 'gennerated' was given; did you mean 'generated'?"),
        ({"kind": "footage"}, "kind must be real or generated, but 'footage' was given."),
        ({"kind": 1}, "kind must be real or generated, but 1 was given."),
        ({"split": "Train"}, "split must be train or val, or another word for rows to leave out, but 'Train' was given; did you"),
        ({"split": "validation"}, "'validation' was given; did you mean 'val'?"),
        ({"identity": 7}, "identity must be text, but 7 was given."),
        ({"identity": " "}, "identity is empty; each row needs a file, an identity, a kind and a split."),
        ({"terms": 4.0}, "terms must be text, but 4.0 was given"),
        ({"term": "CC BY 4.0"}, "There is no field 'term'; did you mean 'terms'?"),
        ({"kind": None, "kinds": "real"}, "There is no field 'kinds'; did you mean 'kind'?"),
    ],
)  # fmt: skip
def test_a_bad_value_names_file_and_line_what_was_given_and_what_is_accepted(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path, "", json.dumps(ROW | changes))
    with pytest.raises(SettingsError) as error:
        read_catalogue(path)
    assert str(error.value).startswith(f"Line 2 of {path}: ") and reason in str(error.value)
    meant = re.search(r"did you mean '(\w+)'", str(error.value))
    if meant is not None:
        ((name, value),) = ((name, value) for name, value in changes.items() if value is not None)
        better = {meant[1]: value} if name not in ROW else {name: meant[1]}
        assert len(read_catalogue(write(tmp_path, json.dumps(ROW | better)))) == 1


def test_an_empty_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        read_catalogue(write(tmp_path, ""))


def test_a_catalogue_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.jsonl"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match=r"cannot be read .*UTF-8"):
        read_catalogue(path)
