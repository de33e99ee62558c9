"""Runs of flags."""

from __future__ import annotations

import numpy as np

from fantasytalking.system.flag_runs import flag_runs, longest_flag_run


def test_runs_are_found_at_both_ends_and_between() -> None:
    assert flag_runs([True, False, True, True, False, True]).tolist() == [[0, 1], [2, 4], [5, 6]]
    assert flag_runs(np.ones(3, bool)).tolist() == [[0, 3]]


def test_without_a_true_flag_there_is_none() -> None:
    assert flag_runs([]).shape == flag_runs([False, False]).shape == (0, 2)


def test_the_longest_run_is_the_first_of_several() -> None:
    assert longest_flag_run([True, False, True, True, False, True, True]) == slice(2, 4)
    assert longest_flag_run([False]) == longest_flag_run([]) == slice(0, 0)
