"""JSON files are strict, and complete or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasytalking.errors import OutputError
from fantasytalking.system.json import json_text, read_json, write_strict_json
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


def test_a_missing_or_damaged_file_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "gone.json") is None
    for content in (b"{", b"\xff", json.dumps({"a": 1}).encode()[:-1]):
        (tmp_path / "a.json").write_bytes(content)
        assert read_json(tmp_path / "a.json") is None
