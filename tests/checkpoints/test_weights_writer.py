"""Checkpoints are written tensor by tensor, readable by the safetensors library, and never incomplete."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.checkpoints.weights_writer import Entry, write_checkpoint
from fantasytalking.errors import OutputError


def entries(weights: dict[str, torch.Tensor], dtype: torch.dtype | None = None) -> list[Entry]:
    return [
        Entry(key, tuple(value.shape), dtype or value.dtype, lambda value=value: value)  # type: ignore[misc]
        for key, value in weights.items()
    ]


def test_every_type_and_shape_comes_back(tmp_path: Path) -> None:
    weights = {
        "half": torch.randn(3, dtype=torch.float32).half(),
        "brain": torch.randn(3, 5).bfloat16(),
        "single": torch.randn(2, 3).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "index": torch.arange(5),
        "mask": torch.tensor([True, False]),
    }
    files = write_checkpoint(tmp_path, "model", entries(weights))
    assert [file.name for file in files] == ["model.safetensors"]
    loaded = load_file(files[0])
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in weights.items())


def test_a_large_checkpoint_is_split_and_indexed(tmp_path: Path) -> None:
    weights = {f"layer.{i}": torch.full((10,), float(i)) for i in range(7)}
    files = write_checkpoint(tmp_path, "model", entries(weights), max_shard_bytes=100)
    assert next(file.name for file in files) == "model-00001-of-00004.safetensors"
    assert files[-1].name == "model.safetensors.index.json"
    assert all(file.stat().st_size < 1000 for file in files[:-1])
    read = open_weights(tmp_path)
    assert all(torch.equal(read.get(key), value) for key, value in weights.items())


def test_values_are_cast_one_by_one(tmp_path: Path) -> None:
    file, *_ = write_checkpoint(tmp_path, "model", entries({"a": torch.tensor([1.0, 2.0])}, torch.bfloat16))
    assert load_file(file)["a"].dtype == torch.bfloat16


def test_a_full_disk_leaves_no_half_file_and_is_said(tmp_path: Path) -> None:
    def full() -> torch.Tensor:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bad = [*entries({"a": torch.zeros(4)}), Entry("b", (4,), torch.float32, full)]
    with pytest.raises(OutputError, match="the disk is full"):
        write_checkpoint(tmp_path / "out", "model", bad)
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path) -> None:
    def interrupted() -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "out", "model", [Entry("b", (4,), torch.float32, interrupted)])
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_checkpoint(tmp_path / "file", "model", entries({"a": torch.zeros(1)}))
