"""Finding clips whose sound and picture are out of step."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.training.embedded.linear_sync import fit_ridge, measure_sync
from tests.training.synthetic import make_track, tracks


@cache
def ridge() -> NDArray[np.float64]:
    return fit_ridge(tracks())


def test_the_ridge_hears_the_mouth_of_a_stranger() -> None:
    report = measure_sync(make_track("new", "stranger", seed=40), ridge())
    assert report.keep
    assert report.offset == 0
    assert report.at_zero > 0.6


@pytest.mark.parametrize("lag", [-7, -3, 3, 7])
def test_a_known_shift_is_found_in_size_and_direction(lag: int) -> None:
    report = measure_sync(make_track("late", "stranger", seed=41, lag=lag), ridge())
    assert abs(report.offset - lag) <= 1
    assert report.keep
    assert report.correlation > report.at_zero + 0.1


def test_a_face_that_does_not_follow_the_speech_is_dropped() -> None:
    a, b = make_track("a", "x", frames=400, seed=42), make_track("b", "y", frames=400, seed=43)
    report = measure_sync(replace(a, speech=b.speech), ridge())
    assert report.correlation < 0.5
    assert report.offset != 0 or report.at_zero < 0.3


def test_silence_with_a_still_face_is_dropped() -> None:
    track = make_track("s", "x")
    still = replace(track, points=np.repeat(track.points[:1], 100, 0), speech=np.zeros_like(track.speech))
    assert not measure_sync(still, ridge()).keep
