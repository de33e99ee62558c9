from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import Clip
from lip_following import DEAF, OWN, SHUFFLED, ClipLevelPipeline, Row, gap, load_stage1

from fantasytalking.conditioning.conditions import AudioCondition, Conditions
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
    found = gap([*rows, row(DEAF, {})])
    assert found["gap"] == pytest.approx(0.4)
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)


def test_an_unmeasured_row_has_no_figure() -> None:
    assert Row(DEAF).summary["r"] is None


def test_without_stage_2_every_frame_listens_to_the_whole_clip() -> None:
    made = embedded_pipeline()
    pipeline = ClipLevelPipeline(**made.components)
    windows = torch.zeros(1, 2, 2, dtype=torch.int64)
    conditions = Conditions(torch.zeros(1, 1, 16), audio=AudioCondition(torch.zeros(1, 10, 16), windows))
    told = pipeline._branches(conditions, pipeline.settings()).conditions.audio
    assert told is not None and told.ranges is None
    assert torch.equal(told.features, conditions.audio.features)  # type: ignore[union-attr]


def test_a_folder_without_weights_is_no_stage_1_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ema.safetensors"):
        load_stage1(tmp_path, "demo")
