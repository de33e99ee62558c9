"""No training takes a damaged set for a whole one, whether it is verified at once or meanwhile, and a whole one is verified once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.errors import InputError
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_TINY
from fantasytalking.training.adapter.train_adapter import train_adapter
from fantasytalking.training.distillation.distil_adapter import distil_released
from fantasytalking.training.distillation.distil_embedded import distil_embedded
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES
from fantasytalking.training.embedded.embedded_recipes import RECIPES
from fantasytalking.training.embedded.train_embedded import train_embedded
from fantasytalking.training.trainer import data_check
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.data.test_set_verification import middle
from tests.pipeline.tiny_pipeline import wan_pipeline
from tests.training.latent_set import made_up, write_set

RECIPE = replace(ADAPTER_TINY, train=replace(ADAPTER_TINY.train, tensorboard=False))
FOUND = r"train-000000.tar' is damaged .*the clip 'clip1' is not what was prepared; give the command that prepared the set again"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "pipeline"
    wan_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three clips; not to be changed."""
    clips = {f"clip{i}": made_up(9, seed=i) for i in range(3)}
    return write_set(tmp_path_factory.mktemp("whole") / "set", wan_pipeline(), clips)


def damaged(whole: Path, folder: Path) -> Path:
    """A copy of the set, with a flipped bit in the arrays of a clip."""
    made = Path(shutil.copytree(whole, folder))
    middle("clip1.safetensors")(made / "shards" / "train-000000.tar")
    return made


TRAININGS: dict[str, Callable[[Path, Path, Path], Any]] = {
    "adapter": lambda data, run, base: train_adapter(RECIPE, data, run, base),
    "embedded": lambda data, run, base: train_embedded(RECIPES["tiny"], data, run),
    "distil": lambda data, run, base: distil_embedded(DISTIL_RECIPES["distil"], embedded_folder(), data, run),
    "distil-lora": lambda data, run, base: distil_released(DISTIL_RECIPES["distil-lora-tiny"], base, data, run),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_on_a_set_names_the_damaged_clip(whole: Path, base: Path, tmp_path: Path, name: str) -> None:
    data = damaged(whole, tmp_path / "set")
    with pytest.raises(InputError, match=FOUND):
        TRAININGS[name](data, tmp_path / "run", base)
    assert not list(tmp_path.glob("run/**/log.jsonl"))


def test_a_large_set_is_verified_while_the_run_goes_on(
    whole: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_check, "AT_ONCE", 0)
    data, run = damaged(whole, tmp_path / "set"), tmp_path / "run"
    with pytest.raises(InputError, match=rf"{FOUND}.*begin again in another --output"):
        train_adapter(RECIPE, data, run, base)
    assert not (run / "adapter.safetensors").exists() and not (run / data_check.RECORD).exists()
    assert "while the run goes on; --no-verify leaves it out" in capsys.readouterr().err
    # the advice
    shutil.copytree(whole, data, dirs_exist_ok=True)
    assert train_adapter(RECIPE, data, tmp_path / "another", base).is_file()
    assert (tmp_path / "another" / data_check.RECORD).is_file()


def test_a_set_is_verified_once_and_again_when_its_files_change(whole: Path, base: Path, tmp_path: Path) -> None:
    data, run = Path(shutil.copytree(whole, tmp_path / "set")), tmp_path / "run"
    train_adapter(RECIPE, data, run, base)
    tar = data / "shards" / "train-000000.tar"
    before = tar.stat()
    middle("clip1.safetensors")(tar)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    train_adapter(RECIPE, data, run, base)
    os.utime(tar)
    with pytest.raises(InputError, match=FOUND):
        train_adapter(RECIPE, data, run, base)


def test_a_run_that_is_not_to_verify_says_what_is_left_out(
    whole: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_adapter(RECIPE, damaged(whole, tmp_path / "set"), tmp_path / "run", base, verify=False)
    assert "are not verified (--no-verify): damaged pictures, sounds and arrays" in capsys.readouterr().err
    assert RunFolder(tmp_path / "run" / "transformer").records()
