"""Sampling of an enlarged photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fantasytalking.autoencoder import enlarged_photo
from fantasytalking.autoencoder.enlarged_photo import EnlargedPhoto
from tests.pipeline.tiny_pipeline import portrait


def displacement(height: int, width: int) -> np.ndarray:
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([1.3 + 2 * np.sin(ys / 9), -0.6 + 1.5 * np.cos(xs / 11)]).astype(np.float32)


@pytest.mark.parametrize("longest", [4096, 700, 192])
def test_nothing_moved_is_the_photo_and_the_rest_is_as_sharp_as_with_a_long_filter(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enlarged_photo, "LONGEST_SIDE", longest)
    image, (x0, y0, x1, y1) = portrait(), (20, 30, 180, 170)
    photo = EnlargedPhoto(image, (x0, y0, x1, y1))
    assert photo.factor == {4096: 5, 700: 3, 192: 1}[longest]
    part = image[y0:y1, x0:x1]
    assert np.abs(photo.sample(np.zeros((2, y1 - y0, x1 - x0), np.float32), (x0, y0)).astype(int) - part).max() <= 1
    back = displacement(100, 120)
    sampled = photo.sample(back, (40, 50)).astype(float)
    ys, xs = np.mgrid[50:150, 40:160].astype(np.float32)
    places = xs + back[0], ys + back[1]
    exact, cubic = (
        cv2.remap(image, *places, flags, borderMode=cv2.BORDER_REPLICATE).astype(float)
        for flags in (cv2.INTER_LANCZOS4, cv2.INTER_CUBIC)
    )
    apart = np.abs(sampled - exact).mean()
    assert apart < 0.75 * np.abs(cubic - exact).mean()
    assert _detail(sampled) > 0.97 * _detail(exact)


def test_places_outside_of_the_photo_take_its_border() -> None:
    image = portrait()
    back = np.full((2, 10, 10), -50, np.float32)
    assert np.abs(EnlargedPhoto(image, (0, 0, 192, 192)).sample(back, (0, 0)).astype(int) - image[0, 0]).max() <= 2


def _detail(picture: np.ndarray) -> float:
    return float(np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 1)).mean())
