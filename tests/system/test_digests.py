"""Digests of files and folders, and the stamps that keep them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fantasytalking.errors import CheckpointError
from fantasytalking.system.digests import file_sha256, fraction_of, verified_digest


def test_a_listed_digest_may_be_given_by_its_first_digits(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"weights")
    whole = hashlib.sha256(b"weights").hexdigest()
    assert file_sha256(file) == whole == verified_digest(file, whole[:8]) == verified_digest(file, None)
    with pytest.raises(CheckpointError, match="which is listed; delete it"):
        verified_digest(file, "0" * 64)


def test_without_a_list_the_content_must_stay_what_it_was_first(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = verified_digest(folder, None)
    (folder / ".hidden").write_text("does not count")
    assert verified_digest(folder, None) == first
    (folder / "a").write_text("22")
    with pytest.raises(CheckpointError, match=r"the copy first used \(noted in .net.stamp\)"):
        verified_digest(folder, None)


def test_a_damaged_stamp_only_means_that_the_file_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"weights")
    found = verified_digest(file, None)
    (tmp_path / ".w.bin.stamp").write_text("{half")
    assert verified_digest(file, found) == found


def test_a_fraction_depends_on_the_text_alone_even_on_one_that_is_no_utf8() -> None:
    assert fraction_of("a") == int(hashlib.sha256(b"a").hexdigest()[:12], 16) / 2**48
    assert 0 <= fraction_of("\udce9") < 1
