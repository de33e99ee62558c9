"""Damage to a prepared set is found and named, with the shard, the clip and the way out."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fantasytalking.data.latent_dataset import LatentDataset, Window
from fantasytalking.data.preparation.shard_writer import writing_shard
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.data.set_verification import files_sha256
from fantasytalking.errors import InputError
from fantasytalking.system.digests import file_sha256
from fantasytalking.system.json import read_json, read_json_lines
from tests.pipeline.tiny_pipeline import wan_pipeline
from tests.training.latent_set import made_up, write_set

REPAIR = "; give the command that prepared the set again, which repairs it, or copy the set again."


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three clips in one shard; not to be changed."""
    clips = {f"clip{i}": made_up(9, seed=i) for i in range(3)}
    return write_set(tmp_path_factory.mktemp("whole") / "set", wan_pipeline(), clips)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def flip(tar: Path, place: int, bit: int = 1) -> None:
    """Change one bit of a file."""
    content = bytearray(tar.read_bytes())
    content[place] ^= bit
    tar.write_bytes(content)


def member(tar: Path, name: str) -> tarfile.TarInfo:
    with tarfile.open(tar) as archive:
        return archive.getmember(name)


def middle(name: str) -> Callable[[Path], None]:
    """Damage in the middle of a member's content."""

    def damage(tar: Path) -> None:
        found = member(tar, name)
        flip(tar, found.offset_data + found.size // 2)

    return damage


def header(name: str) -> Callable[[Path], None]:
    """Damage of a member's header."""
    return lambda tar: flip(tar, member(tar, name).offset + 3)


def no_header(tar: Path) -> None:
    """A header of zeros, which is how the end of an archive looks."""
    content, start = bytearray(tar.read_bytes()), member(tar, "clip1.safetensors").offset
    content[start : start + 512] = bytes(512)
    tar.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "clip"),
    [
        (middle("clip1.safetensors"), "'clip1' is not what was prepared"),
        (middle("clip2.json"), "'clip2' is not what was prepared"),
        (header("clip1.safetensors"), "'clip1' and 1 more of its 3 clips are not what was prepared"),
        (no_header, "'clip1' and 1 more of its 3 clips are not what was prepared"),
    ],
    ids=["arrays", "row", "header", "zeros"],
)
def test_verifying_names_shard_and_clip(folder: Path, damage: Callable[[Path], None], clip: str) -> None:
    tar = folder / "shards" / "train-000000.tar"
    damage(tar)
    with pytest.raises(InputError) as found:
        PreparedSet.open(folder).verify()
    assert str(found.value) == f"The shard '{tar}' is damaged (its SHA-256 differs): the clip {clip}{REPAIR}"


def test_sets_without_checksums_of_clips_are_verified_too(folder: Path) -> None:
    tar = folder / "shards" / "train-000000.tar"
    rows = [{k: v for k, v in row.items() if k != "sha256"} for row in read_json_lines(folder / "clips.jsonl")]
    arrays = {row["key"]: PreparedSet.open(folder).bytes(row["key"], "safetensors") for row in rows}
    rewrite(folder, rows, arrays)
    PreparedSet.open(folder).verify()
    middle("clip1.safetensors")(tar)
    with pytest.raises(
        InputError, match=r"train-000000.tar' is damaged .*one of its clips 'clip0' to 'clip2'; give the command"
    ):
        PreparedSet.open(folder).verify()


def rewrite(folder: Path, rows: list[dict[str, object]], arrays: dict[str, bytes]) -> None:
    """Write the set anew with other rows and arrays, and its checksums."""
    tar = folder / "shards" / "train-000000.tar"
    with writing_shard(tar) as shard:
        for row in rows:
            shard.add(str(row["key"]), row, {"safetensors": arrays[str(row["key"])]})
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_json(folder / "manifest.json")
    manifest["clips_sha256"] = file_sha256(folder / "clips.jsonl")
    manifest["shards"][0] |= {"bytes": tar.stat().st_size, "sha256": file_sha256(tar)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("damage", [header("clip1.safetensors"), no_header], ids=["header", "zeros"])
def test_a_damaged_header_is_not_taken_for_the_end_of_the_shard(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / "shards" / "train-000000.tar")
    prepared = PreparedSet.open(folder)
    with pytest.raises(
        InputError, match=r"train-000000.tar' is damaged: what follows 'clip1.json' is no tar header; give"
    ):
        prepared.arrays("clip1")


def test_a_missing_row_is_found_when_the_set_is_opened(folder: Path) -> None:
    lines = (folder / "clips.jsonl").read_text().splitlines(keepends=True)
    (folder / "clips.jsonl").write_text("".join(line for line in lines if '"clip1"' not in line))
    sentence = f"has no row of the clip 'clip1', which the shard 'train-000000' holds{REPAIR}"
    with pytest.raises(InputError, match=re.escape(sentence)):
        PreparedSet.open(folder)
    (folder / "clips.jsonl").write_text("".join(lines).replace("a woman speaks", "a man speaks", 1))
    with pytest.raises(InputError, match=r"clips.jsonl' is not the list that was prepared .its SHA-256 differs.; give"):
        PreparedSet.open(folder)


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("latents.0", lambda x: x.index_fill(1, torch.tensor([0]), torch.nan), "has values that are not finite"),
        ("speech.0", lambda x: x * torch.inf, "has values that are not finite"),
        ("lip_mask.0", lambda x: x[..., :1], "has the shape 1 x 3 x 8 x 1 instead of 1 x 3 x 8 x 8"),
        ("latents.0", lambda x: x[0], "has the shape 3 x 8 x 8 instead of any x 3 x 8 x 8"),
        ("condition.0", None, "is missing"),
    ],
    ids=["nan", "inf", "narrow", "flat", "missing"],
)
def test_bad_arrays_of_an_intact_set_name_shard_and_clip(
    folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor] | None, fault: str
) -> None:
    rows = read_json_lines(folder / "clips.jsonl")
    arrays = {row["key"]: PreparedSet.open(folder).bytes(row["key"], "safetensors") for row in rows}
    inside = load(arrays["clip1"])
    before = inside.pop(name)
    arrays["clip1"] = save(inside if change is None else inside | {name: change(before).contiguous()})
    rows[1] |= {"sha256": files_sha256({"safetensors": arrays["clip1"]}), "file": "talk.mp4"}
    rewrite(folder, rows, arrays)
    prepared = PreparedSet.open(folder)
    prepared.verify()
    dataset = LatentDataset(prepared, image=False, identity=False)
    with pytest.raises(InputError) as found:
        dataset.draw(Window(1, 3), np.random.default_rng(0))
    where = f"The array '{name}' of the clip 'clip1' in the shard '{folder / 'shards' / 'train-000000.tar'}' {fault}, "
    assert str(found.value).startswith(where)
    assert str(found.value).endswith("prepare the videos into another folder, without 'talk.mp4'.")
