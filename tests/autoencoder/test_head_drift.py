"""A head that stays turned comes back to the portrait's pose; gestures, expression and lids are left alone."""

from __future__ import annotations

import torch

from fantasytalking.autoencoder.head_drift import SETTLED, HeadDrift
from fantasytalking.autoencoder.mesh_codec import LIDS, POSE_DIMENSIONS

COEFFICIENTS = 5


def motion(pose: torch.Tensor) -> torch.Tensor:
    """Motion numbers [F, P] with a pose [F] in all of its six numbers, and random ones elsewhere."""
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(len(pose), COEFFICIENTS + LIDS, generator=generator)
    poses = pose[:, None].expand(-1, POSE_DIMENSIONS)
    return torch.cat([others[:, :COEFFICIENTS], poses, others[:, COEFFICIENTS:]], -1)


def test_a_lasting_turn_is_let_go_of_and_a_nod_is_not() -> None:
    time = torch.arange(20 * 25) / 25
    nod = 0.1 * torch.sin(2 * torch.pi * time)
    given = motion(0.2 + nod)
    found = HeadDrift().without(given)
    pose = found[:, COEFFICIENTS]
    assert pose[0] > 0.19
    # The turn that is left falls to 1 / e in that time.
    assert torch.allclose(pose[SETTLED - 12 : SETTLED + 13].mean(), torch.tensor(0.2 / torch.e), atol=0.01)
    late = pose[-125:]
    assert late.mean().abs() < 0.002 and late.std() > 0.98 * nod.std()
    others = [*range(COEFFICIENTS), *range(COEFFICIENTS + POSE_DIMENSIONS, given.shape[1])]
    assert torch.equal(found[:, others], given[:, others])


def test_motion_in_pieces_is_that_of_the_whole() -> None:
    given = motion(torch.linspace(0, 1, 100))
    whole, drift = HeadDrift().without(given), HeadDrift()
    assert torch.equal(torch.cat([drift.without(given[:37]), drift.without(given[37:])]), whole)


def test_a_head_that_leaves_the_portraits_pose_at_once_is_held_there_from_the_beginning() -> None:
    """As the model does it: given the portrait's pose, it takes the head elsewhere within some frames, and lets it nod there."""
    time = torch.arange(10 * 25) / 25
    nod = 0.05 * torch.sin(2 * torch.pi * time)
    given = motion(0.2 * (1 - torch.exp(-time / 0.08)) + nod)
    alone, begun = HeadDrift(), HeadDrift()
    begun.begin(given)
    before, found = (drift.without(given)[:, COEFFICIENTS] for drift in (alone, begun))
    assert before[5:50].mean() > 0.12
    assert found[5:50].mean().abs() < 0.02 and found[-50:].mean().abs() < 0.01
    assert abs(found[50:].std() - nod.std()) < 0.002
