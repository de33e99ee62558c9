"""Division of the work between processes."""

from __future__ import annotations

import pytest

from fantasytalking.acceleration.parallel_plan import ParallelPlan, automatic_plan, parse_parallel
from fantasytalking.errors import SettingsError


@pytest.mark.parametrize(
    ("processes", "passes", "heads", "plan"),
    [
        (2, [2] * 30, 40, ParallelPlan(2, 1)),
        (4, [2] * 30, 40, ParallelPlan(2, 2)),
        (8, [2] * 30, 40, ParallelPlan(2, 4)),
        (2, [3] * 30, 40, ParallelPlan(1, 2)),
        (3, [3] * 30, 40, ParallelPlan(3, 1)),
        (6, [3] * 30, 40, ParallelPlan(3, 2)),
        (2, [1] * 30, 40, ParallelPlan(1, 2)),
        # three passes on half of the steps, two on the others: two processes share the tokens of all
        (2, [3] * 15 + [2] * 15, 40, ParallelPlan(1, 2)),
        (4, [3] * 2 + [2] * 28, 2, ParallelPlan(2, 2)),
    ],
)
def test_the_fastest_division_is_chosen(processes: int, passes: list[int], heads: int, plan: ParallelPlan) -> None:
    assert automatic_plan(processes, passes, heads) == plan


def test_a_model_of_too_few_heads_is_one_sentence() -> None:
    with pytest.raises(
        SettingsError, match="the 3 attention heads of this model, which 5 processes cannot do; use one of 1, 2, 3"
    ):
        automatic_plan(5, [2], 3)


def test_plans_are_read_from_text() -> None:
    assert parse_parallel("auto") is None
    assert parse_parallel("guidance=2") == ParallelPlan(2, 1)
    assert parse_parallel("ulysses=4, guidance=2") == ParallelPlan(2, 4)


@pytest.mark.parametrize(
    "text", ["", "2", "guidance=0", "guidance=2,guidance=2", "ring=2", "ulysses=two", "guidance=4"]
)
def test_a_text_that_is_no_plan_is_one_sentence(text: str) -> None:
    with pytest.raises(SettingsError, match="was given"):
        parse_parallel(text)
