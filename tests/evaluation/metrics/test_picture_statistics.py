"""Statistics of pictures move as the pictures do."""

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.evaluation.metrics.picture_statistics import (
    appeal,
    colourfulness,
    laplacian_variance,
    natural_distance,
    natural_features,
)


def blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def test_blur_lowers_sharpness_and_appeal_step_by_step(portrait: NDArray[np.uint8]) -> None:
    steps = [portrait, *(blurred(portrait, s) for s in (1, 2, 4))]
    for measure in (laplacian_variance, appeal):
        values = [measure(image) for image in steps]
        assert all(a > b for a, b in itertools.pairwise(values)), values


def test_grey_has_no_colour_and_pure_red_a_known_amount() -> None:
    assert colourfulness(np.full((8, 8, 3), 90, np.uint8)) == 0
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    # No spread; 0.3 times the length of (200, 100).
    assert colourfulness(red) == pytest.approx(0.3 * np.hypot(200, 100))


def test_sharpness_can_be_of_a_box_and_of_nothing(portrait: NDArray[np.uint8]) -> None:
    assert laplacian_variance(portrait, (0, 0, 512, 512)) == pytest.approx(laplacian_variance(portrait))
    assert laplacian_variance(portrait, (600, 600, 700, 700)) == 0


def test_natural_statistics_are_equal_for_equal_pictures_and_further_the_worse_it_gets(
    portrait: NDArray[np.uint8],
) -> None:
    own = natural_features(portrait)
    assert own.shape[1] == 36
    assert natural_distance(own, own) == 0
    for worse in (lambda k: blurred(portrait, k), lambda k: noisy(portrait, 8 * k)):
        values = [natural_distance(natural_features(worse(k)), own) for k in (0.7, 1.5, 3)]
        assert 0 < values[0] < values[1] < values[2], values


def noisy(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_sharpness_is_measured_inside_the_box_only() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = np.random.default_rng(0).integers(0, 255, (20, 10, 3))
    assert laplacian_variance(image, (0, 0, 8, 20)) == 0
    assert laplacian_variance(image, (12, -5, 30, 30)) > 0
    assert laplacian_variance(image, (40, 0, 60, 20)) == 0
