"""Behind a seam motion goes on where it has stopped, and comes to what the segment says."""

from __future__ import annotations

import math

import torch

from fantasytalking.autoencoder.interface import CONTINUED_FRAMES
from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS
from fantasytalking.autoencoder.segment_join import EXPRESSION_FRAMES, POSE_FRAMES, SLOWING, SegmentJoin

COEFFICIENTS = 5
NUMBERS = COEFFICIENTS + POSE_DIMENSIONS + LIDS
EXPRESSION, POSE, BLINKS = slice(0, COEFFICIENTS), slice(COEFFICIENTS, -LIDS), slice(-LIDS, None)


def ramp(first: float, step: float, frames: int) -> torch.Tensor:
    """Motion numbers [F, P] that all rise alike."""
    return (first + step * torch.arange(frames))[:, None].expand(-1, NUMBERS)


def test_what_separates_two_segments_fades_out() -> None:
    join = SegmentJoin()
    first = join.joined(ramp(0.0, 0.02, 41), 0)
    assert torch.equal(first, ramp(0.0, 0.02, 41))
    # The model has not gone on from 0.8, but begins at 3.
    second = torch.cat([first[-9:], ramp(3.0, 0.0, 100)])
    found = join.joined(second, 9)
    assert len(found) == 100
    step = found[0] - first[-1]
    torch.testing.assert_close(step[EXPRESSION], torch.full((COEFFICIENTS,), SLOWING * 0.02))
    torch.testing.assert_close(step[POSE], torch.full((POSE_DIMENSIONS,), SLOWING * 0.02))
    gap = 0.8 + SLOWING * 0.02 - 3.0
    torch.testing.assert_close(found[:, 0], 3.0 + gap * torch.exp(-torch.arange(100) / EXPRESSION_FRAMES))
    torch.testing.assert_close(found[:, COEFFICIENTS], 3.0 + gap * torch.exp(-torch.arange(100) / POSE_FRAMES))
    assert math.isclose(float(found[-1, COEFFICIENTS]), 3.0, abs_tol=0.05)
    # A blink is drawn over the seam, so lids have none.
    assert torch.equal(found[:, BLINKS], second[9:, BLINKS])


def test_short_segments_add_up_to_no_jump() -> None:
    """A gap that has not faded when the next segment begins is part of what that one joins."""
    join, generator = SegmentJoin(), torch.Generator().manual_seed(0)
    pieces = [join.joined(ramp(0.0, 0.0, 9), 0)]
    for _ in range(40):
        model = torch.randn(1, NUMBERS, generator=generator).expand(13, -1)
        pieces.append(join.joined(model, 9))
    whole = torch.cat(pieces)[:, :-LIDS]
    largest = whole.diff(dim=0).abs().max()
    assert whole.abs().max() < 4 and largest < 4 * (1 - math.exp(-1 / EXPRESSION_FRAMES)) + 0.5


def test_a_video_that_continues_another_one_joins_its_given_frames_and_shows_them() -> None:
    motion = torch.cat([ramp(1.0, 0.0, CONTINUED_FRAMES), ramp(2.0, 0.0, 200)])
    found = SegmentJoin().begun(motion)
    assert torch.equal(found[:CONTINUED_FRAMES], motion[:CONTINUED_FRAMES])
    assert torch.equal(found[CONTINUED_FRAMES, POSE], motion[0, POSE])
    torch.testing.assert_close(found[-1], motion[-1], atol=2e-3, rtol=0)
