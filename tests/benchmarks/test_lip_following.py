from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import Clip
from lip_following import NO_AUDIO, OWN, SHUFFLED, Row, gap, load_stage1
from safetensors.torch import save_file

from fantasytalking.errors import CheckpointError
from tests.pipeline.tiny_pipeline import embedded_pipeline


def row(name: str, values: dict[str, list[float]]) -> Row:
    made = Row(name)
    for clip, windows in values.items():
        for value in windows:
            made.add(Clip(Path(f"{clip}.mp4"), clip, "real", 100), value)
    return made


def test_windows_are_averaged_within_a_clip_first() -> None:
    summary = row(OWN, {"a": [0.2, 0.4, 0.6], "b": [0.8]}).summary
    assert summary["r"] == pytest.approx(0.6)
    assert (summary["clips"], summary["windows"]) == (2, 4)
    assert summary["standard_error"] == pytest.approx(0.2)


def test_the_gap_is_taken_clip_by_clip() -> None:
    rows = [row(OWN, {"a": [0.5], "b": [0.7]}), row(SHUFFLED, {"a": [0.1], "b": [0.3]})]
    found = gap([*rows, row(NO_AUDIO, {})])
    assert found["gap"] == pytest.approx(0.4)
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)


def test_an_unmeasured_row_has_no_figure() -> None:
    assert Row(NO_AUDIO).summary["r"] is None


def test_a_stage_1_checkpoint_is_put_into_the_model(tmp_path: Path) -> None:
    made = embedded_pipeline()
    made.save_pretrained(tmp_path / "model")
    weights = {name: value + 1 for name, value in made.transformer.state_dict().items()}
    (tmp_path / "step").mkdir()
    save_file(weights, tmp_path / "step" / "ema.safetensors")
    loaded = load_stage1(tmp_path / "step", str(tmp_path / "model")).transformer.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_a_folder_without_weights_is_no_stage_1_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ema.safetensors"):
        load_stage1(tmp_path, "embedded")
