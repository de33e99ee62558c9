"""Inverses of displacements."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fantasytalking.autoencoder.inversion import inverse_displacement, slopes


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_what_is_moved_and_moved_back_is_where_it_was(strength: float) -> None:
    """Places are stretched up to 2.5 times here, where a fixed-point iteration would not converge."""
    ys, xs = np.mgrid[0:90, 0:120].astype(np.float32)
    bump = np.exp(-(((xs - 60) / 18) ** 2) - ((ys - 45) / 15) ** 2)
    forward = (strength * 9 * np.stack([bump, -0.5 * bump])).astype(np.float32)
    back = inverse_displacement(forward)
    at = np.stack([xs, ys]) + back
    rest = back + np.stack([cv2.remap(plane, at[0], at[1], cv2.INTER_LINEAR) for plane in forward])
    assert np.abs(rest).max() < 0.05
    if strength == 0:
        assert np.abs(back).max() == 0


@pytest.mark.parametrize("is_smooth", [False, True])
@pytest.mark.parametrize("strength", [0.3, 1.5])
def test_the_inverse_of_the_frame_before_leads_to_the_same_place_and_a_useless_one_is_given_up(
    strength: float, is_smooth: bool
) -> None:
    ys, xs = np.mgrid[0:90, 0:120].astype(np.float32)
    bump = np.exp(-(((xs - 60) / 18) ** 2) - ((ys - 45) / 15) ** 2)
    before, now = ((s * 9 * np.stack([bump, -0.5 * bump])).astype(np.float32) for s in (0.8 * strength, strength))
    alone = inverse_displacement(now)
    start = inverse_displacement(before)
    kept = start.copy()
    followed = inverse_displacement(now, start, is_smooth)
    assert np.array_equal(start, kept)
    assert np.abs(followed - alone).max() < 0.1
    assert np.array_equal(inverse_displacement(now, np.full_like(start, 40.0), is_smooth), alone)


def test_slopes_are_those_of_a_plane() -> None:
    ys, xs = np.mgrid[0:9, 0:9].astype(np.float32)
    dx, dy = slopes(np.stack([2 * xs + 3 * ys, xs - ys]))
    assert np.allclose(dx[:, 4, 4], [2, 1])
    assert np.allclose(dy[:, 4, 4], [3, -1])
