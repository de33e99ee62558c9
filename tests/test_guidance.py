"""Three-way guidance: formula, passes and schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fantasytalking.errors import SettingsError
from fantasytalking.guidance import GuidancePlan, Pass, branch, pass_weights
from tests.tiny import tiny_conditions

N, T, A = Pass.NEGATIVE, Pass.TEXT, Pass.AUDIO


def three_way(
    v_neg: torch.Tensor, v_text: torch.Tensor, v_audio: torch.Tensor, g_prompt: float, g_audio: float
) -> torch.Tensor:
    """The released formula."""
    return v_neg + g_prompt * (v_text - v_neg) + g_audio * (v_audio - v_text)


def velocities() -> dict[Pass, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {which: torch.randn(2, 3, generator=generator) for which in Pass}


@pytest.mark.parametrize(
    ("g_prompt", "g_audio", "passes"),
    [
        (5.0, 4.5, (N, T, A)),
        (5.0, 5.0, (N, A)),
        (1.0, 4.5, (T, A)),
        (5.0, 0.0, (N, T)),
        (1.0, 1.0, (A,)),
        (1.0, 0.0, (T,)),
        (0.0, 0.0, (N,)),
    ],
)
def test_only_passes_with_a_weight_run_and_their_sum_is_the_formula(
    g_prompt: float, g_audio: float, passes: tuple[Pass, ...]
) -> None:
    v = velocities()
    plan = GuidancePlan(g_prompt, g_audio)
    assert tuple(pass_weights(g_prompt, g_audio)) == plan.passes(0, 10) == passes
    guided = plan.combine({which: v[which] for which in passes}, 0, 10)
    torch.testing.assert_close(guided, three_way(v[N], v[T], v[A], g_prompt, g_audio))


def test_without_speech_or_negative_prompt_equal_branches_run_once() -> None:
    assert tuple(pass_weights(5, 4.5, has_audio=False)) == (N, T)
    assert tuple(pass_weights(5, 4.5, has_negative=False)) == (T, A)
    assert tuple(pass_weights(5, 4.5, has_audio=False, has_negative=False)) == (T,)
    assert tuple(pass_weights(5, 1, has_negative=False)) == (A,)
    v = velocities()
    weights = pass_weights(5, 4.5, has_negative=False)
    guided = sum(weight * v[which] for which, weight in weights.items())
    torch.testing.assert_close(guided, three_way(v[T], v[T], v[A], 5, 4.5))


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.1, 3.3, 7.7])
def test_weights_sum_to_one_and_equal_scales_need_no_text_pass(scale: float) -> None:
    assert T not in pass_weights(scale, scale)
    for audible in (True, False):
        for negative in (True, False):
            assert sum(pass_weights(scale, 2.0, audible, negative).values()) == pytest.approx(1)


def test_audio_guidance_acts_only_between_its_start_and_end() -> None:
    plan = GuidancePlan(5, 4.5, audio_start_percent=10, audio_end_percent=70)
    acting = [step for step in range(30) if A in plan.passes(step, 30)]
    assert acting == list(range(3, 21))
    assert plan.passes(29, 30) == (N, T)
    assert all(A in GuidancePlan().passes(step, 30) for step in range(30))


def test_outside_its_window_guidance_counts_as_one_and_a_single_pass_is_left() -> None:
    plan = GuidancePlan(5, 4.5, guidance_start_percent=25, guidance_end_percent=75)
    assert [len(plan.passes(step, 4)) for step in range(4)] == [1, 3, 3, 1]
    assert plan.passes(0, 4) == (A,)
    v = velocities()
    assert torch.equal(plan.combine({A: v[A]}, 0, 4), v[A])
    assert GuidancePlan(5, 4.5, has_audio=False, guidance_end_percent=0).passes(0, 4) == (T,)
    silent = GuidancePlan(5, 4.5, audio_end_percent=50, guidance_end_percent=75)
    assert [silent.passes(step, 4) for step in range(4)] == [(N, T, A), (N, T, A), (N, T), (T,)]


def test_a_scale_below_one_acts_outside_the_window_too() -> None:
    plan = GuidancePlan(0.5, 3.0, guidance_end_percent=50)
    assert plan.weights(3, 4) == pass_weights(0.5, 1.0)
    generator = torch.Generator().manual_seed(1)
    v = {which: torch.randn(2, 4, 1, 2, 2, generator=generator) for which in Pass}
    made = plan.combine(v, 3, 4, torch.zeros(4))
    torch.testing.assert_close(made, three_way(v[N], v[T], v[A], 0.5, 1.0))


def test_a_branch_differs_only_in_prompt_and_speech() -> None:
    conditions, negative = tiny_conditions(), torch.zeros(1, 7, 12)
    assert branch(conditions, A) is conditions
    text = branch(conditions, T)
    assert text.audio is None and text.text is conditions.text and text.identity is conditions.identity
    unwanted = branch(conditions, N, negative)
    assert unwanted.audio is None and unwanted.text is negative and unwanted.image is conditions.image
    with pytest.raises(SettingsError, match="negative prompt"):
        branch(conditions, N)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_scale": -1},
        {"audio_scale": -0.1},
        {"audio_start_percent": 80, "audio_end_percent": 70},
        {"audio_end_percent": 101},
        {"guidance_start_percent": 80, "guidance_end_percent": 70},
        {"guidance_start_percent": -1},
    ],
)
def test_scales_and_percentages_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        GuidancePlan(**wrong)


def test_half_precision_velocities_are_combined_in_float32() -> None:
    halves = {which: v.bfloat16() for which, v in velocities().items()}
    assert GuidancePlan(5, 4.5).combine(halves, 0, 1).dtype == torch.float32


def test_channels_that_speech_does_not_guide_take_a_scale_above_one_as_one() -> None:
    generator = torch.Generator().manual_seed(1)
    v = {which: torch.randn(2, 4, 1, 2, 2, generator=generator) for which in (T, A)}
    channels = torch.tensor([1.0, 0.0, 0.5, 1.0])
    guided = GuidancePlan(1.0, 3.0).combine(v, 0, 10, channels)
    scale = torch.tensor([3.0, 1.0, 2.0, 3.0]).view(1, 4, 1, 1, 1)
    torch.testing.assert_close(guided, v[T] + scale * (v[A] - v[T]))
    weak = GuidancePlan(1.0, 0.5)
    torch.testing.assert_close(weak.combine(v, 0, 10, channels), weak.combine(v, 0, 10))
