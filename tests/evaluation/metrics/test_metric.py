"""What the metrics share."""

import numpy as np
import pytest

from fantasytalking.evaluation.metrics.metric import between_frames, cosines


def test_equal_frames_have_similarity_one_and_opposite_ones_minus_one() -> None:
    vector = np.array([[1.0, 2.0, 3.0]])
    assert between_frames(np.repeat(vector, 4, axis=0)) == pytest.approx(1)
    assert between_frames(np.concatenate([vector, -vector])) == pytest.approx(-1)


def test_similarity_is_half_to_the_first_and_half_to_the_previous_frame() -> None:
    x, y = np.eye(2)
    # Frame 1: 0 and 0. Frame 2: 0 to the first, 1 to the previous.
    assert between_frames(np.stack([x, y, y])) == pytest.approx((0 + 0 + 0 + 1) / 4)


def test_a_zero_vector_is_like_nothing() -> None:
    assert cosines(np.zeros((1, 3)), np.ones(3))[0] == 0
