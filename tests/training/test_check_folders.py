"""Folders of a run are looked at before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from fantasytalking.errors import InputError, OutputError, SettingsError
from fantasytalking.training.check_folders import (
    check_data,
    check_output_folder,
    data_digest,
    keep_choices,
    model_digest,
)

ROW = '{"file": "a.mp4", "identity": "a", "kind": "real", "split": "train"}\n'


def test_the_kind_of_a_data_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "catalogue.jsonl").write_text(ROW)
    assert check_data(tmp_path, ("set", "catalogue")) == "catalogue"
    with pytest.raises(InputError, match="--data must be a prepared set"):
        check_data(tmp_path, ("set",))
    before = data_digest(tmp_path, "catalogue")
    (tmp_path / "catalogue.jsonl").write_text(ROW + ROW)
    assert data_digest(tmp_path, "catalogue") != before
    (tmp_path / "catalogue.jsonl").write_text("{}\n")
    with pytest.raises(SettingsError, match="Line 1 of"):
        check_data(tmp_path, ("catalogue",))
    (tmp_path / "catalogue.jsonl").unlink()
    (tmp_path / "work").mkdir()
    with pytest.raises(InputError, match="is not finished: give the command that prepares it again"):
        check_data(tmp_path, ("set", "catalogue"))
    run = tmp_path / "run"
    (run / "tracks").mkdir(parents=True)
    (run / "tracks" / "a.safetensors").touch()
    assert check_data(run, ("set", "tracks")) == "tracks"


def test_a_run_folder_beside_data_and_model_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    check_output_folder(
        tmp_path / "data-run", tmp_path / "data", base=tmp_path / "model", start="embedded", teacher=None
    )
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with pytest.raises(OutputError, match="which --base names"):
        check_output_folder(tmp_path / "link" / "run", tmp_path / "data", base=tmp_path / "model")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is a file"):
        check_output_folder(tmp_path / "file", tmp_path / "data")


def test_choices_are_compared_once_the_run_depends_on_them(tmp_path: Path) -> None:
    run, (one, two) = tmp_path / "run", (tmp_path / "one", tmp_path / "two")
    for model in (one, two):
        model.mkdir()
        (model / "weights.safetensors").write_text(model.name)
    assert model_digest(one) != model_digest(two) and model_digest("embedded") != model_digest("somebody/else")
    keep_choices(run, {"pairs_per_identity": 4, "start": model_digest(one)})
    keep_choices(run, {"pairs_per_identity": 5, "start": model_digest(one)})  # nothing was done yet
    (run / "transformer" / "step-4").mkdir(parents=True)
    keep_choices(run, {"pairs_per_identity": 5, "start": model_digest(one)})
    with pytest.raises(
        SettingsError, match="begun with --pairs-per-identity 5, but now it is 4; give the same to go on"
    ):
        keep_choices(run, {"pairs_per_identity": 4, "start": model_digest(one)})
    with pytest.raises(SettingsError, match="begun with --start naming other content"):
        keep_choices(run, {"pairs_per_identity": 5, "start": model_digest(two)})
    keep_choices(run, {"pairs_per_identity": 4, "start": model_digest(one)}, allowed=("pairs_per_identity",))
