"""Weights are read without running code and without reading more than needed; a broken or unsafe file is one sentence."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.errors import CheckpointError
from tests.checkpoints import tiny


class RunsCode:
    """Unpickling it makes a file, to show that code ran."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["adapter.ckpt", "Wan2.1_VAE.pth", "pytorch_model.bin"])
def test_a_pickle_that_tries_to_run_code_is_refused(tmp_path: Path, name: str) -> None:
    proof = tmp_path / "proof"
    torch.save({"proj_model": {"proj.weight": RunsCode(proof)}}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"refused because its pickle names .*system, which could run code"):
        open_weights(tmp_path / name)
    assert not proof.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_an_old_style_pickle_that_tries_to_run_code_is_refused(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "model.pth").write_bytes(pickle.dumps(RunsCode(proof)))
    with pytest.raises(CheckpointError):
        open_weights(tmp_path / "model.pth")
    assert not proof.exists()


def test_a_folder_with_a_shard_missing_names_it(tmp_path: Path) -> None:
    shards = tiny.write_shards(tmp_path, {f"layer.{i}": torch.zeros(2) for i in range(6)})
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of 3 shards \(diffusion_pytorch_model-00002-of-00003"):
        open_weights(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="00002-of-00003"):
        open_weights(tmp_path)


def test_shards_are_found_with_and_without_their_index(tmp_path: Path) -> None:
    tiny.write_shards(tmp_path, {f"layer.{i}": torch.full((2,), float(i)) for i in range(6)})
    with_index = open_weights(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").unlink()
    without = open_weights(tmp_path)
    assert with_index.infos == without.infos and len(without.infos) == 6
    assert all(without.get(f"layer.{i}")[0] == i for i in range(6))


def test_truncated_files_are_called_damaged(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    for file in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        content = file.read_bytes()
        for length in (len(content) - 100, 4, 0):
            file.write_bytes(content[:length])
            with pytest.raises(CheckpointError, match="damaged or incomplete"):
                open_weights(file)


@pytest.mark.parametrize("content", [b"not weights at all, but text", b"\xff" * 100])
@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_files_of_something_else_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        open_weights(tmp_path / name)


def test_nothing_there_other_kinds_and_ambiguous_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights at"):
        open_weights(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="holds no safetensors"):
        open_weights(tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(CheckpointError, match="is not a weights file"):
        open_weights(tmp_path / "readme.txt")
    for name in "ab":
        save_file({name: torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="holds several checkpoints"):
        open_weights(tmp_path)


def test_a_broken_index_is_called_damaged(tmp_path: Path) -> None:
    broken = ("{", "[]", json.dumps({"weight_map": None}), json.dumps({"weight_map": {"a": 1}}))
    for content in broken:
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(CheckpointError, match="damaged"):
            open_weights(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "{root}/secret.safetensors", "part/../../secret.safetensors"]
)
def test_an_index_opens_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "secret.safetensors")
    (tmp_path / "model" / "part").mkdir(parents=True)
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name.format(root=tmp_path)}}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_weights(tmp_path / "model")


def test_entries_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"weights": {"a": torch.zeros(1)}, "step": 3}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="entry step is a int"):
        open_weights(tmp_path / "a.ckpt")


def test_dicts_in_dicts_are_flattened_and_wrappers_are_opened(tmp_path: Path) -> None:
    torch.save({"state_dict": {"part": {"a": torch.ones(2)}}}, tmp_path / "a.ckpt")
    weights = open_weights(tmp_path / "a.ckpt")
    assert list(weights.infos) == ["part.a"] and weights.shape("part.a") == (2,)


def test_files_older_than_the_zip_format_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(open_weights(tmp_path / "old.pth").get("a"), torch.arange(3.0))


def test_values_stay_valid_after_the_mapping_is_dropped(tmp_path: Path) -> None:
    save_file({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    weights = open_weights(tmp_path / "a.safetensors")
    value = weights.get("a")
    weights.release()
    assert torch.equal(value, load_file(tmp_path / "a.safetensors")["a"])
    assert torch.equal(weights.get("b"), torch.ones(2, dtype=torch.bfloat16))
