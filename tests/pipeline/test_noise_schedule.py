"""A scheduler that the user chose keeps its shift unless the call names another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    UniPCMultistepScheduler,
)

from fantasytalking.errors import SettingsError
from fantasytalking.flow import shifted
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.talking_video import TalkingVideo
from tests.pipeline.tiny_pipeline import portrait, speech, wan_pipeline

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


def run(pipeline: FantasyTalkingPipeline, *arguments: Any, **settings: Any) -> TalkingVideo:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline(portrait(), speech(0.3), *arguments, **settings)


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=2.0),
        FlowMatchHeunDiscreteScheduler(shift=2.0),
        UniPCMultistepScheduler(**FLOW, flow_shift=2.0),
        DPMSolverMultistepScheduler(**FLOW, flow_shift=2.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_a_scheduler_keeps_its_own_shift(scheduler: Any) -> None:
    pipeline = wan_pipeline(scheduler=scheduler)
    kept, same, other = run(pipeline), run(pipeline, sigma_shift=2.0), run(pipeline, sigma_shift=5.0)
    assert np.array_equal(kept.frames, same.frames) and not np.array_equal(kept.frames, other.frames)
    assert (kept.settings.sigma_shift, other.settings.sigma_shift) == (2.0, 5.0)
    told = "The scheduler's own shift 2 is used in place of sigma_shift 5; give sigma_shift to set it."
    assert (kept.notes, same.notes) == ((told,), ())
    assert other.notes == ("sigma_shift 5 is used in place of the scheduler's own shift 2.",)
    record = run(pipeline, GenerationSettings(steps=2))
    assert np.array_equal(record.frames, other.frames) and record.notes == other.notes


def test_a_shift_counts_wherever_the_scheduler_comes_from(tmp_path: Path) -> None:
    wan_pipeline(defaults={"steps": 2, "sigma_shift": 4.0}).save_pretrained(tmp_path / "model")
    load = FantasyTalkingPipeline.from_pretrained
    assert run(load(tmp_path / "model")).settings.sigma_shift == 4.0
    passed = load(tmp_path / "model", scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0))
    assert run(passed).settings.sigma_shift == 2.0
    replaced = load(tmp_path / "model")
    replaced.scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    assert run(replaced).settings.sigma_shift == 1.0
    late = load(tmp_path / "model")
    late.scheduler = FlowMatchEulerDiscreteScheduler()
    late.scheduler.set_shift(7.0)
    assert run(late).settings.sigma_shift == 7.0
    passed.save_pretrained(tmp_path / "again")
    assert run(load(tmp_path / "again")).settings.sigma_shift == 2.0


def test_a_scheduler_without_a_shift_of_its_own_gets_that_of_the_model(tmp_path: Path) -> None:
    pipeline = wan_pipeline(defaults={"steps": 2, "sigma_shift": 4.0})
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, **FLOW)
    before = run(pipeline)
    assert before.settings.sigma_shift == 4.0 and before.notes == ()
    pipeline.save_pretrained(tmp_path)
    assert np.array_equal(run(FantasyTalkingPipeline.from_pretrained(tmp_path)).frames, before.frames)


def test_a_shift_by_the_size_of_the_picture_is_refused() -> None:
    pipeline = wan_pipeline(scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
    with pytest.raises(SettingsError, match="use_dynamic_shifting=False"):
        run(pipeline)


def test_the_four_steps_of_lcm_are_those_of_distilled_models_and_none_is_wasted_beside_zero() -> None:
    schedule = make_schedule(FlowMatchLCMScheduler(), GenerationSettings(steps=4), torch.device("cpu"))
    levels = shifted(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]), 5.0)
    torch.testing.assert_close(schedule.sigmas.float(), levels)
