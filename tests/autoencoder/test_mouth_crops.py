"""Crops around the mouth and windows of them."""

from __future__ import annotations

import cv2
import numpy as np

from fantasytalking.autoencoder.mouth_crops import (
    CROP,
    FINER,
    SMALLEST,
    crop_scale,
    crop_transform,
    draw_lips,
    lips_in_crop,
    mouth_windows,
    take_crop,
)
from fantasytalking.perception.landmarks import LIPS_INNER
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh, turn_head


def test_the_crop_holds_the_mouth_level_and_centred_however_the_head_is_turned() -> None:
    for roll in (0.0, 0.5, -0.5):
        vector = np.array([[0, 0, roll]], np.float32)
        mesh = turn_head(own_mesh()[None], vector, np.zeros((1, 2), np.float32), np.ones(1, np.float32))[0]
        transform = crop_transform(mesh)
        points = mesh[:, :2] @ transform[:, :2].T + transform[:, 2]
        assert np.abs(points[list(LIPS_INNER)].mean(0) - CROP / 2).max() < CROP / 8
        assert abs(points[33, 1] - points[263, 1]) < 0.05 * CROP
        assert np.allclose(
            transform[:, :2] @ transform[:, :2].T, np.eye(2) * np.linalg.det(transform[:, :2]), atol=1e-4
        )


def test_the_crop_of_a_large_portrait_looks_like_that_of_a_small_one() -> None:
    small, mesh = portrait(), own_mesh()
    large = cv2.resize(small, (960, 960), interpolation=cv2.INTER_CUBIC)
    a = take_crop(small, crop_transform(mesh)).astype(float)
    # pixel centres: x becomes 5 (x + 1/2) - 1/2
    b = take_crop(large, crop_transform(5 * mesh + np.array([2, 2, 0], np.float32))).astype(float)
    assert np.abs(a - b).mean() < 4


def test_opening_the_mouth_grows_the_inner_mask_and_does_not_zoom() -> None:
    shut, wide = open_mouth(own_mesh(), np.array([0.0, 0.1], np.float32))
    masks = [draw_lips(lips_in_crop(mesh, crop_transform(mesh)), (CROP, CROP), CROP) for mesh in (shut, wide)]
    assert masks[0].shape == (3, CROP, CROP)
    assert masks[1][0].sum() > 1.5 * masks[0][0].sum()
    scales = [np.linalg.det(crop_transform(mesh)[:, :2]) for mesh in (shut, wide)]
    assert np.isclose(*scales)


def test_a_mouth_is_drawn_as_finely_as_its_picture_shows_it() -> None:
    for factor in (0.5, 2.0, 3.0, 8.0):
        mesh = (factor * own_mesh()).astype(np.float32)
        scale = crop_scale(mesh)
        finer = np.hypot(*crop_transform(mesh, CROP, scale)[0, :2])
        assert SMALLEST - 1e-6 <= scale <= 1
        if SMALLEST < scale < 1:
            assert np.isclose(finer, FINER)
        full = lips_in_crop(mesh, crop_transform(mesh))
        assert np.allclose(
            lips_in_crop(mesh, crop_transform(mesh, CROP, scale)) - CROP / 2, scale * (full - CROP / 2), atol=1e-2
        )
    assert np.isclose(crop_scale(0.5 * own_mesh()), SMALLEST) and crop_scale(20 * own_mesh()) == 1


def test_windows_hold_all_that_may_be_painted_and_the_portraits_own_mouth() -> None:
    shut, wide = open_mouth(own_mesh(), np.array([0.0, 0.12], np.float32))
    for scale in (0.4, 1.0):
        lips = np.stack([lips_in_crop(mesh, crop_transform(mesh, CROP, scale)) for mesh in (shut, wide)])
        windows = mouth_windows(lips, lips[::-1], CROP, scale)
        assert windows.width % 32 == windows.height % 32 == 0 and windows.height < CROP
        for number, (outline, own, corner) in enumerate(zip(lips, lips[::-1], windows.corners, strict=True)):
            whole = draw_lips(outline, (CROP, CROP), CROP * scale)
            left, top = corner
            inside = slice(top, top + windows.height), slice(left, left + windows.width)
            part = draw_lips((outline - corner).astype(np.float32), (windows.width, windows.height), CROP * scale)
            assert np.abs(whole[:, *inside].astype(int) - part).max() <= 12
            outside = whole.copy()
            outside[:, *inside] = 0
            assert outside[:2].max() == 0 and outside[2].max() <= 16
            assert (own[0] >= corner).all() and (own[0] - corner <= (windows.width, windows.height)).all()
            crop = np.random.default_rng(0).integers(0, 255, (CROP, CROP), np.uint8)
            assert np.array_equal(windows.cut([crop] * 2)[number], crop[inside])
