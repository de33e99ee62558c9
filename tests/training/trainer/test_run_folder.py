"""A run folder belongs to one training at a time, from its first file to its last."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.cli.__main__ import main
from fantasytalking.errors import OutputError
from fantasytalking.system.json import read_json_lines, write_json
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_TINY
from fantasytalking.training.adapter.train_adapter import train_adapter
from fantasytalking.training.distillation.distil_adapter import distil_adapter, distil_released
from fantasytalking.training.distillation.distil_embedded import distil_embedded
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES
from fantasytalking.training.embedded.embedded_recipes import RECIPES
from fantasytalking.training.embedded.train_embedded import train_embedded
from fantasytalking.training.lip_sync.lip_sync_recipes import LIP_SYNC_RECIPES
from fantasytalking.training.lip_sync.train_lip_sync import train_lip_sync
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run
from tests.pipeline.tiny_pipeline import wan_pipeline
from tests.system.test_folder_owner import holder
from tests.training.latent_set import made_up, write_set

STEPS = 1000


@pytest.fixture(scope="module")
def occupied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that another process trains in."""
    folder = tmp_path_factory.mktemp("occupied") / "run"
    with holder(folder):
        yield folder


DISTIL, NOWHERE = DISTIL_RECIPES["distil-lora-tiny"], Path("/nowhere")
TRAININGS: dict[str, Callable[[Path], Any]] = {
    "embedded": lambda run: train_embedded(RECIPES["embedded"], NOWHERE, run),
    "tiny": lambda run: train_embedded(RECIPES["tiny"], NOWHERE, run),
    "adapter": lambda run: train_adapter(ADAPTER_TINY, NOWHERE, run, NOWHERE),
    "distil": lambda run: distil_embedded(DISTIL_RECIPES["distil"], NOWHERE, NOWHERE, run),
    "distil-lora": lambda run: distil_released(DISTIL, NOWHERE, NOWHERE, run),
    "distil-lora in Python": lambda run: distil_adapter(DISTIL, None, None, run),  # type: ignore[arg-type]
    "lip-sync": lambda run: train_lip_sync(LIP_SYNC_RECIPES["lip-sync"], NOWHERE, run),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_no_training_begins_in_a_folder_that_another_one_owns(occupied: Path, name: str) -> None:
    before = sorted(occupied.rglob("*"))
    with pytest.raises(OutputError, match=r"Another process is training in .*choose another --output"):
        TRAININGS[name](occupied)
    assert sorted(occupied.rglob("*")) == before


@pytest.mark.slow
def test_two_trainings_side_by_side_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wan_pipeline().save_pretrained(tmp_path / "base")
    data = write_set(tmp_path / "set", wan_pipeline(), {f"clip{i}": made_up(9, seed=i) for i in range(2)})
    run = tmp_path / "run"
    words = ["train", "adapter-tiny", "--data", data, "--base", tmp_path / "base", "--output", run, "--steps", STEPS]
    command = [sys.executable, "-m", "fantasytalking.cli", *map(str, words)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not RunFolder(run / "transformer").records():
            assert first.poll() is None and time.monotonic() < deadline, "the first training does not begin"
            time.sleep(0.1)
        assert main(list(map(str, words))) == 2
        assert f"(process {first.pid} on " in capsys.readouterr().err
    finally:
        first.kill()
        first.wait()
    assert len(read_json_lines(run / "transformer" / "starts.jsonl")) == 1


def test_a_run_that_is_trained_is_not_exported_into(occupied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(occupied / "adapter.json", {})
    words = ["export", str(occupied), str(occupied / "adapter.ckpt"), "--layout", "released"]
    assert main(words) == 2
    assert "Another process is training in" in capsys.readouterr().err
    assert main([*words[:2], str(occupied.parent / "adapter.ckpt"), *words[3:]]) == 2
    assert "Another process" not in capsys.readouterr().err, "reading is allowed; there is no checkpoint yet"


def test_only_the_first_process_of_a_distributed_run_owns_its_folder(
    occupied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @owns_run
    def train(output: Path) -> str:
        return "trained"

    monkeypatch.setenv("RANK", "1")
    assert train(occupied) == "trained"
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(OutputError, match="Another process"):
        train(output=occupied)
