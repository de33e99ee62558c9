"""Pictures as the encoder takes them."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.media.encoder_input import encodable


def planes(picture: av.VideoFrame) -> list[NDArray[np.float32]]:
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width].astype(np.float32)
        for plane in picture.planes
    ]


@pytest.mark.parametrize("size", [(512, 256), (190, 134)], ids=str)
def test_the_quick_conversion_gives_the_picture_of_the_slow_one(size: tuple[int, int]) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    frame = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    quick, slow = (encodable(frame, 3, Fraction(25), reproducible) for reproducible in (False, True))
    assert (quick.time, quick.colorspace, quick.color_range) == (slow.time, slow.colorspace, slow.color_range)
    for a, b in zip(planes(quick), planes(slow), strict=True):
        assert a.shape == b.shape
        assert ((a - b) ** 2).mean() < 0.3  # 53 dB


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((255, 255, 255), (235, 128, 128)), ((0, 0, 0), (16, 128, 128)), ((255, 0, 0), (63, 102, 240))],
    ids=str,
)
def test_colours_have_the_values_of_bt_709(colour: tuple[int, ...], expected: tuple[int, ...]) -> None:
    frame = np.full((8, 16, 3), colour, np.uint8)
    found = [float(plane.mean()) for plane in planes(encodable(frame, 0, Fraction(25)))]
    assert np.abs(np.array(found) - expected).max() <= 1
