"""Colours and sharpness are brought back to the portrait's, by a little at a time."""

from __future__ import annotations

import cv2
import numpy as np

from fantasytalking.autoencoder.hold_look import MAX_SHIFT, hold_look
from tests.pipeline.tiny_pipeline import portrait


def test_a_cast_and_blur_are_taken_back_within_bounds() -> None:
    own = portrait(128)
    drifted = cv2.GaussianBlur(own, (0, 0), 0.6).astype(np.float32) * 0.96 + np.array([5.0, 0.0, -4.0])
    frames = np.clip(np.rint(np.stack([drifted, drifted])), 0, 255).astype(np.uint8)
    held = hold_look(frames, own)

    def distance(given: np.ndarray) -> float:
        return float(np.abs(given.mean((0, 1, 2)) - own.mean((0, 1))).max())

    def detail(given: np.ndarray) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(given, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())

    assert distance(frames) > 3 > 1 > distance(held)
    assert detail(frames[0]) < detail(held[0]) <= 1.05 * detail(own)
    far = np.clip(own.astype(int) + 40, 0, 255).astype(np.uint8)[None]
    moved = float((far.astype(int) - hold_look(far, own)).mean())
    assert 0 < moved <= MAX_SHIFT + 1


def test_the_portrait_itself_stays_as_it_is() -> None:
    own = portrait(128)
    assert np.abs(hold_look(own[None], own)[0].astype(int) - own).max() <= 1
