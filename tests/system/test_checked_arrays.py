"""Arrays that are kept for a later start: what is damaged is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from fantasytalking.errors import InputError
from fantasytalking.system.checked_arrays import read_arrays, save_arrays

ARRAYS: dict[str, NDArray[Any]] = {
    "a": np.arange(60, dtype=np.float32).reshape(3, 20)[:, ::2],
    "b": np.array([1.5], np.float16),
    "none": np.zeros((0, 4)),
}


def test_arrays_and_texts_come_back(tmp_path: Path) -> None:
    save_arrays(tmp_path / "x", ARRAYS, {"info": "text"})
    arrays, texts = read_arrays(tmp_path / "x")
    assert texts == {"info": "text"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    save_arrays(tmp_path / "x", {"a": ARRAYS["a"]}, {"info": "text"})
    whole = (tmp_path / "x").read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(InputError, match=r"x (cannot be read|is damaged)"):
            read_arrays(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"half", b"\x00" * 200])
def test_what_is_no_such_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="x cannot be read"):
        read_arrays(tmp_path / "x")


def test_a_file_of_an_earlier_version_has_no_digest_and_is_taken(tmp_path: Path) -> None:
    save_file({"a": np.ones(3)}, tmp_path / "x")
    assert np.array_equal(read_arrays(tmp_path / "x")[0]["a"], np.ones(3))
