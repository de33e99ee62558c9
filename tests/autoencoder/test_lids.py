"""Lids that close, and blinks that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fantasytalking.autoencoder.lids import LID_POINTS, blink_rate, close_lids, draw_blinks, lid_closure, lid_opening
from fantasytalking.perception.mesh_points import LEFT_LID_RINGS, RIGHT_LID_RINGS
from tests.training.synthetic import own_mesh

FPS = 25.0


def blinks_of(closure: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of frames in which the lids are not fully open."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (closure > 0.02).astype(int), [0]])))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_lids_close_by_the_share_that_is_asked_for_each_eye_on_its_own(share: float) -> None:
    mesh = torch.from_numpy(own_mesh())
    moved = close_lids(mesh[None], torch.tensor([[share, 0.0]]))
    assert torch.allclose(lid_opening(moved)[0], lid_opening(mesh) * torch.tensor([1 - share, 1.0]), atol=2e-3)
    assert torch.allclose(lid_closure(moved, mesh)[0], torch.tensor([share, 0.0]), atol=5e-3)


def test_the_upper_lid_makes_most_of_the_way_and_nothing_beyond_the_skin_around_the_eye_moves() -> None:
    mesh = torch.from_numpy(own_mesh())
    change = (close_lids(mesh[None], torch.ones(1, 2))[0] - mesh)[:, 1]
    assert change[159] > 3 * -change[145] > 0  # y points down: the upper lid comes down, the lower one rises a little
    followers = {point for rings in (RIGHT_LID_RINGS, LEFT_LID_RINGS) for ring in rings for point in ring}
    still = [point for point in range(468) if point not in followers | set(LID_POINTS)]
    assert change[still].abs().max() == 0
    assert 0 < change[list(RIGHT_LID_RINGS[1])].max() < change[159]


def test_a_lid_that_is_wider_open_than_in_the_portrait_counts_as_open() -> None:
    mesh = torch.from_numpy(own_mesh())
    narrow = close_lids(mesh[None], torch.full((1, 2), 0.4))[0]
    assert torch.equal(lid_closure(mesh, narrow), torch.zeros(2))


def test_people_blink_8_to_25_times_a_minute() -> None:
    minutes = [len(blinks_of(draw_blinks(60 * 25, FPS, seed, 0.5))) for seed in range(200)]
    assert min(minutes) >= 8 and max(minutes) <= 25
    assert blink_rate(0.5) - 2 < float(np.mean(minutes)) < blink_rate(0.5) + 2


def test_a_blink_closes_the_eye_for_a_frame_and_is_over_within_four_tenths_of_a_second() -> None:
    for seed in range(60):
        closure = draw_blinks(60 * 25, FPS, seed, 1.0)
        assert closure.dtype == np.float32 and closure.min() == 0 and closure.max() <= 1
        for begin, end in blinks_of(closure[:-10]):
            assert (end - begin) / FPS <= 0.4
            if end < len(closure) - 10:
                assert closure[begin:end].max() >= 0.99
                assert closure[begin:end].argmax() <= (end - begin) / 2  # lids open more slowly than they close
        # between two blinks the eyes are open
        assert (closure == 0).mean() > 0.8


def test_a_seed_repeats_its_blinks_and_a_longer_video_begins_like_a_shorter_one() -> None:
    one, two, other = (draw_blinks(500, FPS, seed, 0.5) for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    for frames in (1, 73, 499):
        assert np.array_equal(draw_blinks(frames, FPS, 3, 0.5), one[:frames])


def test_a_livelier_face_blinks_more_often() -> None:
    counts = [sum(len(blinks_of(draw_blinks(1500, FPS, s, w))) for s in range(60)) for w in (0.0, 0.5, 1.0)]
    assert counts[0] < counts[1] < counts[2] < 1.8 * counts[0]
    assert blink_rate(-1.0) == blink_rate(0.0) and blink_rate(2.0) == blink_rate(1.0)
