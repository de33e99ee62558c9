"""Configurations: recipes, schedules, and the copy in the run folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.errors import SettingsError
from fantasytalking.training.adapter.adapter_recipes import ADAPTER_RECIPES
from fantasytalking.training.distillation.distillation_recipes import DISTIL_RECIPES
from fantasytalking.training.embedded.embedded_recipes import EMBEDDED_TRANSFORMER, RECIPES
from fantasytalking.training.lip_sync.lip_sync_recipes import LIP_SYNC_RECIPES
from fantasytalking.training.trainer.config import StageSchedule, TrainConfig, load_config
from fantasytalking.training.trainer.loop import learning_rate


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_survives_the_run_folder(name: str, tmp_path: Path) -> None:
    config = RECIPES[name].train
    config.save(tmp_path / "config.json")
    assert load_config(TrainConfig, tmp_path / "config.json") == config


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    EMBEDDED_TRANSFORMER.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"learning_rat": 1}))
    with pytest.raises(SettingsError, match="There is no setting 'learning_rat'"):
        load_config(TrainConfig, path)
    EMBEDDED_TRANSFORMER.save(path)
    stored = json.loads(path.read_text())
    for changed, sentence in (({"ema": 2}, "ema must be"), ({"model": {"ffn_dim": 0}}, r"model\.ffn_dim must be")):
        path.write_text(json.dumps(stored | changed))
        with pytest.raises(SettingsError, match=rf"config\.json: {sentence}"):
            load_config(TrainConfig, path)
    path.write_text("{")
    with pytest.raises(SettingsError, match="holds no training configuration"):
        load_config(TrainConfig, path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shift": -1.0}, "shift must be a number from 0.1 to 100, but -1.0 was given; leave it out for 3.0"),
        ({"ema": 2.0}, "ema must be a number from 0 to 1, but 2.0 was given"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be no or bf16, but 'fp8' was given"),
        ({"optimizer": "sgd"}, "optimizer must be adamw or adamw-8bit"),
        ({"keep": 0}, "keep must be a whole number of at least 1, but 0 was given"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1"),
        ({"prefetch": -1}, "prefetch must be a whole number of at least 0"),
        ({"batch_tokens": 0}, "batch_tokens must be a whole number of at least 1"),
        ({"continuation": 1.5}, "continuation must be a number from 0 to 1"),
        ({"stages": ()}, "needs at least one stage"),
        ({"frames": ()}, "windows of some length"),
        ({"batch_tokens": 61}, "batch_tokens must be at least 62, the latent frames of a window of 245 frames, but 61"),
        ({"accumulate": 999}, "accumulate must not exceed the 48 samples of the largest batch, but 999 was given"),
        ({"clip_norm": 0.0}, "clip_norm must be a number of at least 1e-06"),
        ({"seed": 2**64}, "seed must be a whole number from 0 to"),
        ({"model": {"ffn_dim": 0}}, r"model\.ffn_dim must be a whole number of at least 1, but 0 was given"),
        ({"model": {"num_layers": 2.5}}, r"model\.num_layers must be a whole number of at least 1, but 2\.5"),
        (
            {"model": {"attention_head_dim": 7}},
            r"model\.attention_head_dim must be an even number of at least 2, but 7",
        ),
        ({"model": {"patch_size": (1, 2)}}, r"model\.patch_size\[2\] is missing"),
        ({"model": {"eps": float("nan")}}, r"model\.eps must be a number from"),
        ({"model": {"qk_norm": "foo"}}, r"model\.qk_norm must be rms_norm_across_heads or nothing"),
        ({"model": {"ffn": 3}}, r"model: There is no setting 'ffn'; did you mean 'ffn_dim'"),
        (
            {"model": {"identity_dim": 8}},
            r"model\.identity_dim and identity_feature_dim must both be given, or neither",
        ),
        ({"frames": (74,)}, "must be a multiple of 4 plus 1, but it is 74; use 73 or 77"),
    ],
)
def test_a_value_out_of_range_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(EMBEDDED_TRANSFORMER, **change)


def test_a_stage_has_a_known_name_and_sensible_numbers() -> None:
    with pytest.raises(SettingsError, match="stage must be clip, frame or frame-unmasked, but 'clipp' was given"):
        StageSchedule("clipp", 3, 1e-3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"learning_rate must be a number of at least 0, but -0\.001 was given"):
        StageSchedule("clip", 3, -1e-3)
    with pytest.raises(SettingsError, match="steps must be a whole number of at least 1, but 0 was given"):
        StageSchedule("clip", 0, 1e-3)
    with pytest.raises(SettingsError, match=r"audio must be a number from 0 to 1, but 1\.5 was given"):
        Dropout(audio=1.5)


def test_every_recipe_is_scaled_to_a_number_of_steps() -> None:
    # recipes of four families: they share `train` and `scaled_to`, but no class
    recipes: dict[str, Any] = {**RECIPES, **ADAPTER_RECIPES, **DISTIL_RECIPES, **LIP_SYNC_RECIPES}
    for recipe in recipes.values():
        scaled = recipe.scaled_to(40)
        assert scaled.train.total_steps == 40
        assert replace(scaled, train=recipe.train) == recipe


def test_a_short_run_of_the_lip_sync_network_warms_up_over_a_quarter_of_it() -> None:
    train = LIP_SYNC_RECIPES["lip-sync"].train
    assert train.scaled_to(train.total_steps) == train
    assert [train.scaled_to(steps).stages[0].warmup for steps in (3, 40, 1000)] == [1, 11, 100]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_clip_level_first_then_frame_level(name: str) -> None:
    config = RECIPES[name].train
    names = [stage.stage for stage in config.stages]
    assert names[0] == "clip" and set(names[1:]) == {"frame"}
    assert all((frames - 1) % 4 == 0 for frames in config.frames)
    assert (config.dropout.reference, config.dropout.audio, config.dropout.text) == (0.1, 0.1, 0.1)


def test_steps_belong_to_stages_in_order() -> None:
    config = TrainConfig((StageSchedule("clip", 3, 1e-3), StageSchedule("frame", 5, 1e-3)))
    assert config.total_steps == 8
    found = [(config.at(step)[0].stage, config.at(step)[1]) for step in (0, 2, 3, 7, 100)]
    assert found == [("clip", 0), ("clip", 2), ("frame", 0), ("frame", 4), ("frame", 4)]


def test_a_shorter_run_keeps_the_proportion_of_the_stages() -> None:
    config = EMBEDDED_TRANSFORMER.scaled_to(360)
    whole = [stage.steps for stage in EMBEDDED_TRANSFORMER.stages]
    assert [stage.steps for stage in config.stages] == [round(360 * n / sum(whole)) for n in whole]
    for steps in (3, 4, 5, 7, 1000, 5999):
        scaled = EMBEDDED_TRANSFORMER.scaled_to(steps)
        assert scaled.total_steps == steps and all(stage.steps >= 1 for stage in scaled.stages)
    with pytest.raises(
        SettingsError, match="steps must be at least 3, one for each stage of the recipe, but 2 was given"
    ):
        EMBEDDED_TRANSFORMER.scaled_to(2)


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
