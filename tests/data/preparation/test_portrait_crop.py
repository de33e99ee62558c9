"""The portrait crop: steady, inside the frame, around all of the face's path, the mesh moved with it."""

from __future__ import annotations

import numpy as np
import pytest

from fantasytalking.data.preparation.follow_face import TrackedFace, face_boxes
from fantasytalking.data.preparation.portrait_crop import Crop, crop_frames, plan_crop
from fantasytalking.data.preparation.preparation_settings import PreparationSettings

SETTINGS = PreparationSettings()


def face(x: float, y: float, size: float, height: int, width: int, path: float = 0.0) -> TrackedFace:
    """A face of `size` pixels whose centre goes from x to x + path."""
    rng = np.random.default_rng(1)
    mesh = rng.uniform(-0.5, 0.5, (468, 3)).astype(np.float32) * size
    mesh[:2, :2] = np.array([[-0.5, -0.5], [0.5, 0.5]]) * size
    centres = np.stack([x + np.linspace(0, path, 10), np.full(10, y), np.zeros(10)], -1)
    points = (mesh[None] + centres[:, None]).astype(np.float32)
    return TrackedFace(points, np.ones(10, np.float32), height, width, {})


@pytest.mark.parametrize("multiple", [2, 16])
@pytest.mark.parametrize(
    ("tracked", "side"),
    [
        (face(960, 400, 200, 1080, 1920), 440),
        (face(960, 400, 400, 1080, 1920), 448),
        (face(960, 400, 200, 1080, 1920, path=400), 448),
        (face(30, 30, 100, 288, 360), 220),
        (face(180, 140, 150, 288, 360), 330),
    ],
)
def test_the_crop_lies_in_the_frame_and_holds_the_face(tracked: TrackedFace, side: int, multiple: int) -> None:
    crop = plan_crop(tracked, SETTINGS, 448, multiple)
    assert crop.left >= 0 and crop.left + crop.width <= tracked.width
    assert crop.top >= 0 and crop.top + crop.height <= tracked.height
    assert crop.out_width % multiple == 0 and crop.out_height % multiple == 0
    assert side - multiple < max(crop.out_width, crop.out_height) <= side
    # nothing is stretched
    assert crop.out_width / crop.width == pytest.approx(crop.out_height / crop.height, rel=0.01)
    boxes = face_boxes(tracked.points)
    inside = boxes.clip([crop.left, crop.top] * 2, [crop.left + crop.width, crop.top + crop.height] * 2)
    assert np.array_equal(inside, boxes.clip([0, 0] * 2, [tracked.width, tracked.height] * 2))


def test_the_mesh_follows_the_pixels() -> None:
    frame = np.zeros((100, 120, 3), np.uint8)
    frame[40:44, 60:64] = 255  # its middle is at (61.5, 41.5)
    crop = Crop(left=20, top=10, width=80, height=80, out_width=40, out_height=40)
    small = crop_frames([frame, frame, frame], crop, 2)
    assert small.shape == (2, 40, 40, 3)
    rows, columns = np.nonzero(small[0, ..., 0] > 128)
    (point,) = crop.move(np.array([[61.5, 41.5, 8.0]], np.float32))
    assert point == pytest.approx([columns.mean(), rows.mean(), 4.0])
