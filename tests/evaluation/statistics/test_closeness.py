"""The score of THEval on figures that are known."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.evaluation.statistics.closeness import closeness
from fantasytalking.evaluation.statistics.intervals import median_interval, paired

REAL = [{"a": 1.0, "b": 3.0}, {"a": 10.0, "b": 10.0}]


def score(made: list[dict[str, float]], true: list[dict[str, float]] = REAL) -> float:
    return closeness(made, true, 100, 0.95, 0).value


def test_the_score_is_the_mean_of_what_each_mean_lacks_of_the_true_one() -> None:
    # means 1 and 12 of 2 and 10: 1 - 1/2 and 1 - 2/10
    assert score([{"a": 0.0, "b": 2.0}, {"a": 12.0, "b": 12.0}]) == pytest.approx((0.5 + 0.8) / 2)
    assert score(REAL) == 1
    assert score([{"a": 6.0, "b": 6.0}, REAL[1]]) == pytest.approx((-1 + 1) / 2), "it may be negative"


def test_each_figure_has_the_clips_that_it_has() -> None:
    assert score([{"a": 1.0, "b": 3.0}, {"b": 5.0}], [REAL[0], {"b": 10.0}]) == pytest.approx((1 + 0.5) / 2)


def test_the_interval_is_of_clips_and_holds_the_score() -> None:
    rng = np.random.default_rng(0)
    names = [f"clip{k}" for k in range(12)]
    true = [{n: float(v) for n, v in zip(names, rng.uniform(1, 2, 12), strict=True)} for _ in range(4)]
    made = [{n: v * float(rng.uniform(0.5, 1)) for n, v in part.items()} for part in true]
    found = closeness(made, true, 500, 0.95, 0)
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high < 1
    assert closeness(true, true, 500, 0.95, 0) == type(found)(1.0, 1.0, 1.0)
    few = closeness(
        [{n: part[n] for n in names[:4]} for part in made], [{n: p[n] for n in names[:4]} for p in true], 50, 0.95, 0
    )
    assert few.low is None


def test_a_median_is_not_moved_by_one_clip_that_is_far_off() -> None:
    values = [0.8, 0.9, 1.0, 1.1, 1.2, 50.0, 1.0]
    found = median_interval(values, 500, 0.95, 0)
    assert found.value == 1 and found.low is not None and found.high is not None and found.low < 1 < found.high < 50
    assert median_interval(values[:3], 500, 0.95, 0).low is None
    got, p = paired("median", [0.1, 0.2, 0.3, 9.0], 100, 0.95, 0)
    # all four signs agree: of 16 patterns of signs two are as far from 0
    assert got.value == pytest.approx(0.25) and p == pytest.approx(2 / 16)
