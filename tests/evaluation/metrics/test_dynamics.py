"""SD and BD are true speeds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fantasytalking.evaluation.footage import Footage
from fantasytalking.evaluation.metrics.dynamics import Dynamics, dis_flows, proxy, region_speeds
from fantasytalking.evaluation.protocol import Protocol


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """Smooth noise, periodic in both directions."""
    import cv2

    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    wrapped = np.pad(noise, 16, mode="wrap")
    smooth = cv2.GaussianBlur(wrapped, (0, 0), 3)[16:-16, 16:-16]
    return (smooth - smooth.mean()) / smooth.std() * 45 + 128


def moving_square(
    square: tuple[int, int], background: tuple[int, int], frames: int = 12, size: int = 256, side: int = 120
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A textured square that moves over a textured background that moves too: frames and where the square is."""
    back, front = texture(size, size, 0), texture(side, side, 1)
    pictures, masks = [], []
    for t in range(frames):
        picture = np.roll(back, (background[1] * t, background[0] * t), (0, 1))
        x, y = 50 + square[0] * t, 60 + square[1] * t
        picture[y : y + side, x : x + side] = front
        mask = np.zeros((size, size), bool)
        mask[y : y + side, x : x + side] = True
        pictures.append(np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
        masks.append(mask)
    return np.stack(pictures), np.stack(masks)


@pytest.mark.parametrize(("square", "background"), [((3, 0), (1, 0)), ((2, 2), (0, 3)), ((4, -3), (-1, 1))])
def test_speeds_of_a_square_over_a_moving_background_are_true_within_five_per_cent(
    square: tuple[int, int], background: tuple[int, int]
) -> None:
    frames, masks = moving_square(square, background)
    metric = Dynamics(dis_flows, lambda footage: masks, proxy().columns)  # type: ignore[arg-type]
    footage = Footage("square", frames, None, Protocol(longest_side=256))
    found = metric.measure(footage, footage).values
    assert found["sd"] == pytest.approx(np.hypot(*square), rel=0.05)
    assert found["bd"] == pytest.approx(np.hypot(*background), rel=0.05)


def test_a_region_that_is_not_there_has_no_speed() -> None:
    flow = np.ones((8, 8, 2), np.float32)
    everything = np.ones((1, 8, 8), bool)
    speeds = region_speeds(iter([flow]), everything)
    assert speeds[0, 0] == pytest.approx(2**0.5) and np.isnan(speeds[0, 1])


def test_a_clip_without_background_is_measured_and_said_to_have_none(calm: Footage) -> None:
    everything = np.ones(calm.frames.shape[:3], bool)
    metric = Dynamics(dis_flows, lambda footage: everything, proxy().columns)  # type: ignore[arg-type]
    found = metric.measure(calm, calm)
    assert set(found.values) == {"sd"} and "BD-dis" in found.notes[0]


def test_a_livelier_head_moves_more_and_a_still_picture_not_at_all(calm: Footage, lively: Footage) -> None:
    metric = proxy()
    speed = [metric.measure(clip, clip).values["sd"] for clip in (calm, lively)]
    assert speed[1] > 1.3 * speed[0] > 0
    still = Footage("still", np.repeat(calm.frames[:1], 5, axis=0), None, calm.protocol)
    assert metric.measure(still, still).values == {"sd": 0.0, "bd": 0.0}
