"""Configurations: recipes, schedules, and the copy in the run folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fantasytalking.errors import SettingsError
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_TRANSFORMER, RECIPES
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig
from fantasytalking.training.trainer.loop import learning_rate


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_survives_the_run_folder(name: str, tmp_path: Path) -> None:
    config = RECIPES[name].transformer
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    EMBEDDED_TRANSFORMER.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"learning_rat": 1}))
    with pytest.raises(SettingsError, match="learning_rat"):
        TrainConfig.load(path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_clip_level_first_then_frame_level(name: str) -> None:
    config = RECIPES[name].transformer
    names = [stage.stage for stage in config.stages]
    assert names[0] == "clip" and set(names[1:]) == {"frame"}
    assert all((frames - 1) % 4 == 0 for frames in config.frames)
    assert (config.dropout.reference, config.dropout.audio, config.dropout.text) == (0.1, 0.1, 0.1)


def test_steps_belong_to_stages_in_order() -> None:
    config = TrainConfig((StageSchedule("clip", 3, 1e-3), StageSchedule("frame", 5, 1e-3)), {})
    assert config.total_steps == 8
    found = [(config.at(step)[0].stage, config.at(step)[1]) for step in (0, 2, 3, 7, 100)]
    assert found == [("clip", 0), ("clip", 2), ("frame", 0), ("frame", 4), ("frame", 4)]


def test_a_shorter_run_keeps_the_proportion_of_the_stages() -> None:
    config = EMBEDDED_TRANSFORMER.scaled_to(360)
    whole = [stage.steps for stage in EMBEDDED_TRANSFORMER.stages]
    assert [stage.steps for stage in config.stages] == [round(360 * n / sum(whole)) for n in whole]
    assert all(stage.steps >= 1 for stage in EMBEDDED_TRANSFORMER.scaled_to(1).stages)


def test_the_learning_rate_warms_up_and_ends_at_its_fraction() -> None:
    schedule = StageSchedule("clip", 110, 1e-3, warmup=10, final_fraction=0.1)
    rates = [learning_rate(schedule, step) for step in range(110)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)


def test_a_painter_of_no_steps_needs_a_model_to_take_it_from() -> None:
    assert replace(RECIPES["tiny"], painter_steps=0, start="embedded").painter_steps == 0
    with pytest.raises(SettingsError, match="needs at least 1 step, but has 0"):
        replace(RECIPES["tiny"], painter_steps=0)
