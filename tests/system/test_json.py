"""JSON files and files of JSON lines: strict where asked, and complete or absent."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import OutputError
from fantasytalking.system.json import (
    append_json_line,
    json_text,
    read_json,
    read_json_lines,
    write_json,
    write_strict_json,
)
from tests.media.files import left_over


def test_json_has_no_infinities_and_no_arrays() -> None:
    text = json_text({"a": math.nan, "b": np.float32(0.5), "c": np.arange(2), "d": "é\udcff", "e": (None, True)})
    assert text == '{"a": null, "b": 0.5, "c": [0, 1], "d": "é\\\\udcff", "e": [null, true]}'
    assert json_text({1: torch.tensor([1.0, math.inf])}) == '{"1": [1.0, null]}'


def test_a_file_is_replaced_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_strict_json(path, {"name": "é", "seconds": math.inf}, indent=1)
    assert path.read_text("utf-8") == '{\n "name": "é",\n "seconds": null\n}\n'
    write_strict_json(path, [1])
    assert read_json(path) == [1] and left_over(tmp_path) == ["a.json"]
    with pytest.raises(TypeError):
        write_strict_json(path, [object()])
    assert read_json(path) == [1] and left_over(tmp_path) == ["a.json"]
    with pytest.raises(OutputError, match="does not exist"):
        write_strict_json(tmp_path / "gone" / "a.json", 1)


def test_a_value_comes_back_and_the_file_ends_with_a_line_end(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for value in ({"a": [1, 2.5, None]}, [1], "text"):
        write_json(path, value, indent=2)
        assert read_json(path) == value and path.read_text().endswith("\n")


@pytest.mark.parametrize("content", [None, b"", b"{half", b"\xff\xfe"])
def test_a_missing_or_damaged_file_gives_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert read_json(path) is None


def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_json(tmp_path / "none" / "a.json", {})


def test_a_line_that_was_cut_off_is_closed_before_the_next_and_left_out_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    append_json_line(path, {"step": 3})
    with path.open("a") as file:
        file.write("7\n")
    assert read_json_lines(path) == [{"step": 1}, {"step": 3}]
