"""What the lip-sync network looks at."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.errors import InputError
from fantasytalking.perception.lip_sync import LipSync
from fantasytalking.perception.mouth_view import (
    CROP_HEIGHT,
    CROP_WIDTH,
    SHAPE_DIM,
    bridge_gaps,
    see_mouth,
)
from tests.pipeline.tiny_pipeline import portrait
from tests.training.synthetic import open_mouth, own_mesh, turn_head

TEMPLATE = LipSync.bundled().template


def test_the_shape_knows_the_opening_and_forgets_head_pose_and_size() -> None:
    opening = np.linspace(0, 0.08, 12).astype(np.float32)
    meshes = open_mouth(own_mesh(), opening)
    frames = np.repeat(portrait()[None], 12, 0)
    still = see_mouth(frames, meshes, None, TEMPLATE)
    assert still.shape.shape == (12, SHAPE_DIM)
    assert np.corrcoef(still.shape[:, -3], opening)[0, 1] > 0.99
    vectors = 0.15 * np.sin(np.arange(36).reshape(12, 3)).astype(np.float32)
    turned = turn_head(meshes, vectors, np.full((12, 2), 7.0), np.full(12, 1.3))
    moved = see_mouth(frames, turned, None, TEMPLATE)
    assert np.abs(moved.shape - still.shape).max() < 0.1 * np.abs(still.shape).max()


def test_the_crop_follows_the_head_and_not_the_jaw() -> None:
    shifts = np.stack([np.arange(10), np.zeros(10)], 1).astype(np.float32)
    frames = np.stack([np.roll(portrait(), round(float(x)), axis=1) for x, _ in shifts])
    meshes = np.repeat(own_mesh()[None], 10, 0)
    meshes[..., :2] += shifts[:, None]
    crops = see_mouth(frames, meshes, None, TEMPLATE).crops.astype(float)
    assert crops.shape == (10, CROP_HEIGHT, CROP_WIDTH)
    assert np.abs(crops[6] - crops[3]).mean() < 2
    left_behind = see_mouth(frames, np.repeat(own_mesh()[None], 10, 0), None, TEMPLATE).crops.astype(float)
    assert np.abs(left_behind[6] - left_behind[3]).mean() > 6
    jaw = np.where(np.arange(10) < 5, 0, 0.08).astype(np.float32)
    still = see_mouth(np.repeat(portrait()[None], 10, 0), open_mouth(own_mesh(), jaw), None, TEMPLATE).crops
    assert np.abs(still[9].astype(float) - still[0]).mean() < 2  # the picture did not move, so the crop must not


def test_frames_without_a_face_take_the_mesh_between_their_neighbours() -> None:
    points = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((6, 468, 3), np.float32)
    broken = points.copy()
    broken[[0, 2, 3, 5]] = 100
    bridged = bridge_gaps(broken, np.array([0, 1, 0, 0, 1, 0], np.float32))
    np.testing.assert_allclose(bridged[:, 0, 0], [1, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(bridge_gaps(broken, None), broken)
    np.testing.assert_array_equal(bridge_gaps(broken, np.zeros(6, np.float32)), broken)


def test_frames_and_meshes_must_be_as_many() -> None:
    meshes = np.repeat(own_mesh()[None], 3, 0)
    with pytest.raises(InputError, match="has 2 and 3"):
        see_mouth(np.repeat(portrait()[None], 2, 0), meshes, None, TEMPLATE)
    with pytest.raises(InputError, match=r"points \[F, 468, 3\]"):
        see_mouth(np.repeat(portrait()[None], 2, 0), meshes[:0], None, TEMPLATE)
