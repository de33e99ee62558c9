"""Which samples a step takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from fantasytalking.data.condition_dropout import Dropout
from fantasytalking.errors import InputError, SettingsError
from fantasytalking.training.trainer.random_draws import StepDraws
from fantasytalking.training.trainer.sources import BucketPlan, WindowSource

BUCKETS = ["wide"] * 7 + ["tall"] * 5 + ["long"] * 1
TOKENS = {"wide": 10, "tall": 12, "long": 100}


def plan(seed: int = 0, **more: bool) -> BucketPlan:
    return BucketPlan(BUCKETS, TOKENS, 30, seed, **more)


def test_an_epoch_covers_every_sample_once() -> None:
    made = plan()
    assert made.batches == 3 + 3 + 1
    for epoch in range(3):
        taken = [made(epoch * made.batches + i) for i in range(made.batches)]
        assert sorted(i for batch in taken for i in batch) == list(range(len(BUCKETS)))


def test_a_batch_has_one_size_and_fits_the_budget() -> None:
    for step in range(14):
        batch = plan()(step)
        keys = {BUCKETS[i] for i in batch}
        assert len(keys) == 1
        key = keys.pop()
        assert len(batch) * TOKENS[key] <= 30 or len(batch) == 1


def test_the_plan_is_a_pure_function_of_seed_and_step() -> None:
    used, fresh = plan(), plan()
    for step in range(20):
        used(step)
    assert [used(step) for step in (13, 2, 8)] == [fresh(step) for step in (13, 2, 8)]
    first, second = ([fresh(e * 7 + i) for i in range(7)] for e in range(2))
    assert first != second
    assert [plan(1)(i) for i in range(7)] != first


def test_incomplete_batches_can_be_dropped_and_their_samples_come_another_time() -> None:
    made = plan(keep_incomplete=False)
    assert made.batches == 2 + 2 + 1
    sizes = {"wide": 3, "tall": 2, "long": 1}
    seen = Counter(i for step in range(20 * made.batches) for i in made(step))
    assert all(len(made(step)) == sizes[BUCKETS[made(step)[0]]] for step in range(10))
    assert seen.keys() == set(range(len(BUCKETS)))


def test_what_cannot_be_planned_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no training sample"):
        BucketPlan([], {}, 30)
    with pytest.raises(SettingsError, match="at least 1, but 0 was given"):
        BucketPlan(BUCKETS, TOKENS, 0)
    with pytest.raises(InputError, match=r"No size of sample fills a batch \(sizes of batches: \[9\], samples: 2\)"):
        BucketPlan(["a", "a"], {"a": 10}, 99, keep_incomplete=False)


def test_windows_of_a_step_have_one_length_and_fill_the_batch() -> None:
    source = WindowSource({}, (73, 73, 145), 304, seed=3)
    plans = [source.plan(step) for step in range(200)]
    assert {(keys[0], len(keys)) for keys in plans} == {(73, 16), (145, 8)}
    assert all(len(set(keys)) == 1 for keys in plans)
    assert np.mean([keys[0] == 145 for keys in plans]) == pytest.approx(1 / 3, abs=0.1)


def test_the_draws_of_a_sample_do_not_depend_on_what_else_is_drawn() -> None:
    whole = StepDraws.draw(1, 7, 6, 3.0, Dropout())
    some = StepDraws.draw(1, 7, 6, 3.0, Dropout(), [4, 1])
    for name in ("sigma", "kept", "lips"):
        assert torch.equal(getattr(some, name), getattr(whole, name)[[4, 1]])
    assert torch.equal(some.noise((4, 2)), whole.noise((4, 2))[[4, 1]])
    assert len(set(whole.noise((4,))[:, 0].tolist())) == 6
    other = StepDraws.draw(1, 8, 6, 3.0, Dropout())
    assert not torch.equal(other.sigma, whole.sigma)
    assert not torch.equal(other.noise((4,)), whole.noise((4,)))


def test_noise_levels_are_stratified_over_the_global_batch() -> None:
    for step in range(5):
        sigma = StepDraws.draw(0, step, 8, 1.0, Dropout()).sigma
        assert sorted((sigma * 8).long().tolist()) == list(range(8))
