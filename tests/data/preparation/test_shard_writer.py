"""Shards depend on their samples alone, and candidates are dealt by a fixed rule."""

from __future__ import annotations

import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.data.preparation.shard_writer import deal, json_text, writing_shard
from fantasytalking.system.digests import file_sha256


def write(path: Path, order: tuple[str, ...] = ("mp4", "flac")) -> Path:
    with writing_shard(path) as shard:
        shard.add("a-0000", {"key": "a-0000"}, {ending: ending.encode() * 300 for ending in order})
        shard.add("b-0000", {"key": "b-0000"}, {"mp4": b""})
    return path


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "first.tar")
    mask = os.umask(0o077)
    try:
        second = write(tmp_path / "second.tar", order=("flac", "mp4"))
    finally:
        os.umask(mask)
    assert file_sha256(first) == file_sha256(second)
    with tarfile.open(first) as archive:
        members = archive.getmembers()
    assert [m.name for m in members] == ["a-0000.json", "a-0000.flac", "a-0000.mp4", "b-0000.json", "b-0000.mp4"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def write_half() -> None:
        with writing_shard(tmp_path / "a.tar") as shard:
            shard.add("a-0000", {}, {"mp4": b"x"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_without_a_sample_is_no_file(tmp_path: Path) -> None:
    with writing_shard(tmp_path / "a.tar"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_candidates_are_dealt_in_order_each_split_for_itself() -> None:
    dealt = deal(["train", "val", "train", "train", "val", "train"], 2)
    assert [(s.name, s.members) for s in dealt] == [
        ("train-000000", (0, 2)),
        ("train-000001", (3, 5)),
        ("val-000000", (1, 4)),
    ]
    assert deal([], 2) == []


def test_json_knows_no_infinities_and_no_arrays() -> None:
    text = json_text({"a": math.nan, "b": np.float32(0.5), "c": np.arange(2), "d": "é\udcff", "e": (None, True)})
    assert text == '{"a": null, "b": 0.5, "c": [0, 1], "d": "é\\\\udcff", "e": [null, true]}'
