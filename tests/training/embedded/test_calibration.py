"""Openings and head motion that are made as large as people's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from fantasytalking.autoencoder.mesh_codec import POSE_DIMENSIONS, MeshCodec
from fantasytalking.data.motion_dataset import MotionDataset
from fantasytalking.training.embedded.calibration import (
    LARGEST_GAIN,
    LEAST_SLOPE,
    STEEPEST,
    calibrate,
    ease_openings,
    fit_gain,
    fit_openings,
)
from fantasytalking.training.embedded.embedded_recipes import TINY_TRANSFORMER
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel
from tests.data.test_motion_dataset import dataset
from tests.training.synthetic import codec


def fresh() -> MeshCodec:
    made = MeshCodec(10, 6, 4)
    made.load_state_dict(codec().state_dict())
    return made


def true_openings() -> torch.Tensor:
    """Openings as people's are: often nearly closed, seldom wide."""
    return 0.3 * torch.rand(200, 73, generator=torch.Generator().manual_seed(0)) ** 2


def shown(made: MeshCodec, openings: torch.Tensor) -> torch.Tensor:
    """Openings as the codec shows them."""
    k = made.coefficients
    numbers = torch.zeros(*openings.shape, k + 8)
    numbers[..., :k] = openings[..., None] * made.opening_direction
    return made.gap_of(made.shown(numbers)[..., :k])


@pytest.mark.parametrize(
    "distort",
    [lambda true: 0.03 + 0.5 * true, lambda true: 0.02 + true.clamp_min(0) ** 1.3, lambda true: 1.3 * true],
    ids=["shrunk", "bent", "enlarged"],
)
def test_a_monotone_distortion_is_undone(distort: Any) -> None:
    made, true = fresh(), true_openings()
    fit_openings(made, distort(true), true)
    back = shown(made, distort(true))
    typical = (true > 0.005) & (true < 0.28)
    assert (back - true).abs()[typical].mean() < 0.01
    assert abs(float(back.std() / true.std()) - 1) < 0.1


def test_the_map_rises_and_is_nowhere_steeper_than_its_limit() -> None:
    made, true = fresh(), true_openings()
    fit_openings(made, 0.1 + 0.05 * true, true)  # would need a slope of 20
    slope = made.opening_knots[1].diff() / made.opening_knots[0].diff()
    assert slope.min() > 0 and slope.max() <= STEEPEST + 1e-4
    fit_openings(made, true, torch.full_like(true, 0.1))  # would need none
    assert (made.opening_knots[1].diff() > 0).all()


def test_easing_keeps_usual_openings_and_makes_wide_ones_less_wide() -> None:
    made = fresh()
    x = made.opening_knots[0]
    ease_openings(made)
    y = made.opening_knots[1]
    assert torch.equal(y[x < 0], x[x < 0]) and (y.diff() > 0).all()
    eased = shown(made, torch.tensor([0.05, 0.1, 0.2, 0.3])).tolist()
    assert eased[0] == pytest.approx(1.2 * 0.035 + 1.42 * 0.1 * math.tanh(0.15), rel=1e-4)
    assert eased[1:] == pytest.approx([0.123, 0.175, 0.205], rel=0.01)
    slope = float(y[-1] - y[-2]) / float(x[-1] - x[-2])
    assert slope == pytest.approx(LEAST_SLOPE, rel=1e-4)


def test_gains_undo_a_factor_and_are_limited() -> None:
    made = fresh()
    poses = torch.randn(40, 73, POSE_DIMENSIONS, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([0.8, 1.0, 1.25, 0.7, 3.0, 0.1])
    fit_gain(made, poses * factors, poses)
    assert torch.allclose(made.pose_gain[:4], 1 / factors[:4], rtol=1e-3)
    assert made.pose_gain[4:].tolist() == pytest.approx([1 / LARGEST_GAIN, LARGEST_GAIN])


def test_a_model_is_calibrated_to_the_spread_of_its_training_clips() -> None:
    data: MotionDataset = dataset(frames=9)
    made = MotionDataset(
        [track for group in data.people.groups.values() for track in group],
        fresh(),
        9,
        data.intensity,
        data.augmentation,
        0.5,
        torch.zeros(1, 16),
    )
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**TINY_TRANSFORMER.model).eval()
    calibrate(model, made, replace(TINY_TRANSFORMER))
    assert not torch.equal(made.codec.opening_knots, codec().opening_knots)
    assert not torch.equal(made.codec.pose_gain, codec().pose_gain)
    once = made.codec.opening_knots.clone(), made.codec.pose_gain.clone()
    calibrate(model, made, replace(TINY_TRANSFORMER))
    assert torch.equal(made.codec.opening_knots, once[0]) and torch.equal(made.codec.pose_gain, once[1])
