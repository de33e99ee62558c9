"""Lips that meet where the motion closes them, whatever the portrait's mouth does."""

from __future__ import annotations

import pytest
import torch

from fantasytalking.autoencoder.lip_contact import LipContact, lip_gaps, mean_lip_gap
from fantasytalking.perception.mesh_points import INNER_LIPS
from tests.training.synthetic import closed_mesh, codec, own_mesh

PORTRAITS = {"open": own_mesh, "closed": closed_mesh}


def pose_free(which: str) -> torch.Tensor:
    return codec().local_shape(torch.from_numpy(PORTRAITS[which]()))[0]


def contact(moved: torch.Tensor, portrait: torch.Tensor, wanted: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return LipContact.of_template(codec().template)(moved, portrait, wanted, own)


def spread(openings: list[float]) -> torch.Tensor:
    """Gaps [F, 9] that are widest in the middle of the mouth."""
    shape = 1 - torch.linspace(-1, 1, 9).square()
    return torch.tensor(openings)[:, None] * shape / shape[3:6].mean()


def own_gaps(portrait: torch.Tensor) -> torch.Tensor:
    expression = codec().expression_of(portrait)
    result: torch.Tensor = (expression @ lip_gaps(codec().basis)).clamp_min(0)
    return result


def test_an_open_smile_closes_and_closed_lips_stay_closed() -> None:
    for which in PORTRAITS:
        portrait = pose_free(which)
        before = lip_gaps(portrait)
        shut = contact(portrait[None], portrait, torch.zeros(1, 9), own_gaps(portrait))[0]
        after = lip_gaps(shut)
        assert after[1:-1].max() < 0.04  # what the mesh network shows of real closed lips
        assert after.min() > -1e-4  # and they do not pass through each other
        if which == "open":
            assert before[3:6].mean() > 0.1 and after[3:6].abs().max() < 1e-3
        else:
            assert torch.allclose(after[3:6], before[3:6], atol=1e-3)


@pytest.mark.parametrize("opening", [0.06, 0.1, 0.2])
def test_portraits_with_open_and_closed_lips_open_equally(opening: float) -> None:
    shown = []
    for which in PORTRAITS:
        portrait = pose_free(which)
        moved = contact(portrait[None], portrait, spread([opening]), own_gaps(portrait))[0]
        shown.append(float(mean_lip_gap(moved)))
    assert abs(shown[0] - shown[1]) < 0.03
    # the mesh network shows a gap of 0.02 more than the opening
    assert all(abs(gap - opening) < 0.04 for gap in shown)


@pytest.mark.parametrize("which", list(PORTRAITS))
def test_at_its_own_expression_a_portrait_is_left_exactly_as_it_is(which: str) -> None:
    portrait = pose_free(which)
    own = own_gaps(portrait)
    assert torch.allclose(contact(portrait[None], portrait, own[None], own)[0], portrait, atol=1e-6)


def test_the_gap_grows_evenly_with_the_motion_and_only_the_mouth_moves() -> None:
    steps = torch.linspace(0, 0.25, 26).tolist()
    for which in PORTRAITS:
        portrait = pose_free(which)
        moved = contact(portrait.expand(26, -1, -1), portrait, spread(steps), own_gaps(portrait))
        gaps = mean_lip_gap(moved)
        assert (gaps.diff() > -1e-5).all()
        assert gaps.diff().max() < 0.05  # an opening of 0.01 more does not make the lips jump
        change = (moved - portrait)[..., 1].abs().amax(0)
        assert change[[10, 151, 33, 263, 168]].max() < 0.05 * change[list(INNER_LIPS[1])].max()
        assert torch.equal(moved[..., [0, 2]], portrait[..., [0, 2]].expand(26, -1, -1))
