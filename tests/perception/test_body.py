"""Body joints and the person's silhouette."""

import numpy as np
import pytest

from fantasytalking.errors import ImageError
from fantasytalking.perception.body import (
    LEFT_SHOULDER,
    NOSE,
    RIGHT_SHOULDER,
    body_joints,
    person_mask,
)
from tests.perception.pictures import moved, portrait


def test_nose_and_shoulders_of_a_portrait_are_where_they_are_seen() -> None:
    joints = body_joints(portrait())
    assert joints.shape == (33, 4) and joints.dtype == np.float32
    # mp.solutions.pose of mediapipe 0.10.21 on the same picture.
    for joint, (x, y) in {NOSE: (222.7, 128.0), LEFT_SHOULDER: (306.2, 256.6), RIGHT_SHOULDER: (112.7, 240.0)}.items():
        assert np.hypot(*(joints[joint, :2] - (x, y))) < 12
    assert joints[[NOSE, LEFT_SHOULDER, RIGHT_SHOULDER], 3].min() > 0.9
    assert joints[:, 3].min() >= 0 and joints[:, 3].max() <= 1


def test_joints_move_with_the_person() -> None:
    image = portrait()
    still = body_joints(image)
    smaller = body_joints(moved(image, 0.5, (160, 90), 0, (320, 256)))
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    expected = (still[shoulders, :2] - (225, 124)) / 2 + (160, 90)
    assert np.abs(smaller[shoulders, :2] - expected).max() < 8


def test_a_picture_of_nobody_has_joints_that_are_all_invisible() -> None:
    assert not body_joints(np.full((120, 160, 3), 90, np.uint8)).any()


def test_the_mask_separates_the_person_from_the_background() -> None:
    mask = person_mask(portrait())
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    assert mask[80:170, 190:260].mean() > 0.95
    assert mask[:150, 400:].mean() < 0.05 and mask[:150, :100].mean() < 0.05
    assert person_mask(np.ascontiguousarray(portrait()[:100, :37])).shape == (100, 37)


def test_what_is_not_an_image_is_refused() -> None:
    for function in (body_joints, person_mask):
        with pytest.raises(ImageError, match="uint8"):
            function(np.zeros((8, 8), np.uint8))
