"""Resuming a run: what may be changed on the way, and how a finished run answers."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fantasytalking.errors import SettingsError
from fantasytalking.training.trainer.config import StageSchedule
from fantasytalking.training.trainer.resuming import changes, note_finished
from fantasytalking.training.trainer.run_folder import RunFolder
from tests.training.tiny_run import CONFIG, trainer

CLIP, FRAME = StageSchedule("clip", 4, 1e-3, warmup=1), StageSchedule("frame", 4, 1e-3, warmup=1)
SHORT = replace(CONFIG, stages=(CLIP, FRAME))


@pytest.mark.parametrize(
    ("change", "step", "adjustable"),
    [
        ({"weight_decay": 0.1}, 3, True),
        ({"clip_norm": 0.5}, 3, True),
        ({"stages": (CLIP, replace(FRAME, learning_rate=1e-4))}, 3, True),
        ({"stages": (replace(CLIP, steps=6), FRAME)}, 3, True),
        ({"stages": (replace(CLIP, steps=6), FRAME)}, 4, False),  # that stage is over
        ({"stages": (replace(CLIP, steps=2), FRAME)}, 3, False),  # it has done more steps already
        ({"stages": (CLIP, replace(FRAME, steps=6))}, 8, True),
        ({"stages": (CLIP, replace(FRAME, steps=3))}, 8, False),
        ({"stages": (CLIP,)}, 3, False),
        ({"ema": 0.5}, 3, False),
        ({"seed": 1}, 3, False),
        ({"batch_tokens": 999}, 3, False),
    ],
)
def test_what_may_be_changed_with_leave(change: dict[str, Any], step: int, adjustable: bool) -> None:
    stored, now = (json.loads(json.dumps(asdict(config))) for config in (SHORT, replace(SHORT, **change)))
    (found,) = changes(stored, now, step)
    assert found.adjustable is adjustable
    assert changes(stored, json.loads(json.dumps(asdict(replace(SHORT, keep=9, allow_changes=True)))), step) == []


def test_a_change_is_refused_without_leave_and_recorded_with_it(tmp_path: Path) -> None:
    trainer(tmp_path, SHORT).train(until=2)
    slower = replace(SHORT, weight_decay=0.5, stages=(replace(CLIP, learning_rate=1e-4), FRAME))
    with pytest.raises(
        SettingsError, match=r"learning_rate: 0\.001 there, 0\.0001 now.*add --train\.allow-changes to change"
    ):
        trainer(tmp_path, slower)
    with pytest.raises(SettingsError, match=r"seed: 0 there, 1 now\); give it those settings to go on, or another run"):
        trainer(tmp_path, replace(SHORT, seed=1, allow_changes=True))
    resumed = trainer(tmp_path, replace(slower, allow_changes=True))
    assert resumed.step == 2
    assert {group["weight_decay"] for group in resumed.engine.optimizer.param_groups} == {0.5, 0.0}
    resumed.train(until=3)
    starts = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, 2]
    assert starts[0]["changed"] == []
    assert starts[1]["changed"] == [
        "stages.0.learning_rate: 0.001 there, 0.0001 now",
        "weight_decay: 0.01 there, 0.5 now",
    ]
    # from here on these are the run's settings
    assert trainer(tmp_path, slower).step == 3
    with pytest.raises(SettingsError, match="weight_decay"):
        trainer(tmp_path, SHORT)


def test_a_finished_run_says_so_and_is_lengthened_with_leave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, SHORT).train()
    capsys.readouterr()
    assert trainer(tmp_path, SHORT).train() == 8
    longer = replace(SHORT, stages=(CLIP, replace(FRAME, steps=6)))
    capsys.readouterr()
    for config in (SHORT, longer):
        note_finished(RunFolder(tmp_path), config)
    assert capsys.readouterr().err == (
        f"note: {tmp_path} has all its 8 steps and is not trained further; to train on, lengthen its last stage "
        "(--train.stages.1.steps) and add --train.allow-changes.\n"
    )
    with pytest.raises(SettingsError, match=r"stages\.1\.steps: 4 there, 6 now.*--train\.allow-changes"):
        trainer(tmp_path, longer)
    assert trainer(tmp_path, replace(longer, allow_changes=True)).train() == 10


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    made = trainer(tmp_path, SHORT)
    made.train(until=2)
    with torch.no_grad():
        made.engine.bare_model.get_parameter("proj_out.weight")[0, 0] = float("nan")
    made.step = 3
    with pytest.raises(Exception, match="weights are no longer finite"):
        made.save()
    made.checkpoints.settle()
    assert [path.name for path in tmp_path.glob("*step-*")] == ["step-2"]
