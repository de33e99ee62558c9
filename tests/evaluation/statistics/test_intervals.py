"""Intervals cover as often as they say, and paired tests know chance from difference."""

import numpy as np
import pytest

from fantasytalking.evaluation.statistics.intervals import draws, frechet_distances, mean_interval, sign_flip_p


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        found = mean_interval(rng.normal(3.0, 1.0, 30).tolist(), 400, 0.9, seed)
        assert found.low is not None and found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert 0.83 <= hits / 200 <= 0.95


def test_four_clips_have_no_interval_and_five_have_one() -> None:
    found = mean_interval([2.0, 3.0, 1.0, 2.0], 100, 0.95, 0)
    assert (found.value, found.low, found.high) == (2.0, None, None)
    assert mean_interval([2.0, 3.0, 1.0, 2.0, 5.0], 100, 0.95, 0).low is not None
    clips = [np.random.default_rng(i).standard_normal((9, 3)) for i in range(4)]
    assert frechet_distances([clips], clips, 20, 0).resampled.shape == (1, 0)


def test_the_same_seed_draws_the_same_clips_and_each_resample_is_as_large_as_the_set() -> None:
    first, again, other = draws(7, 20, 5), draws(7, 20, 5), draws(7, 20, 6)
    assert (first == again).all() and (first != other).any() and (first.sum(1) == 7).all()


def test_the_sign_flip_test_is_exact_for_few_clips() -> None:
    # All four differences have one sign: 2 of 16 patterns are as extreme.
    assert sign_flip_p([1.0, 2.0, 0.5, 3.0], 100, 0) == 2 / 16
    assert sign_flip_p([1.0, -1.0], 100, 0) == 1.0


def test_the_sign_flip_test_sees_a_shift_among_many_clips_and_none_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(40)
    assert sign_flip_p((noise + 1.5).tolist(), 2000, 0) < 0.01
    assert sign_flip_p((noise - noise.mean()).tolist(), 2000, 0) > 0.9


def test_distances_of_resampled_clips_surround_the_distance_and_tell_a_far_set_from_a_near_one() -> None:
    rng = np.random.default_rng(2)
    true = [rng.standard_normal((40, 12)) + rng.standard_normal(12) * 0.3 for _ in range(15)]
    near, far = [x + 0.2 * rng.standard_normal(x.shape) for x in true], [x + 2.0 for x in true]
    found = frechet_distances([true, near, far], true, 60, 0)
    assert found.values[0] == pytest.approx(0, abs=1e-8)
    assert found.values[2] == pytest.approx(12 * 4.0, rel=1e-6)
    low, high = found.interval(2, 0.95).low, found.interval(2, 0.95).high
    assert low is not None and high is not None and low <= found.values[2] <= high
    gap = found.difference(2, 1, 0.95)
    assert gap.low is not None and 0 < gap.low < gap.value
    same = found.difference(1, 1, 0.95)
    assert same.low is not None and same.high is not None and same.low <= 0 <= same.high


def test_leading_directions_hold_nearly_all_of_a_distance_of_many_dimensions() -> None:
    rng = np.random.default_rng(3)
    spread = 0.9 ** np.arange(150)
    true = [rng.standard_normal((60, 150)) * spread for _ in range(6)]
    made = [x * 1.3 + 0.5 * spread for x in true]
    found = frechet_distances([made], true, 40, 0)
    assert abs(found.resampled.mean() / found.values[0] - 1) < 0.1
