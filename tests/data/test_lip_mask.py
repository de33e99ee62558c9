"""The lip-tracing mask on its way from pixels to latents."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fantasytalking.data.lip_mask import lip_mask_to_latents
from fantasytalking.errors import SettingsError


def test_on_a_hand_case_it_is_torchs_trilinear_interpolation() -> None:
    """A mask that is constant over each group, at twice the latent size, needs no averaging first."""
    groups = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    pixels = torch.cat([groups[:, :1], groups[:, 1:].repeat_interleave(4, 1)], 1)
    repeated = groups.repeat_interleave(4, 1)[:, None]
    expected = F.interpolate(repeated, (3, 4, 6), mode="trilinear", align_corners=False)
    assert torch.allclose(lip_mask_to_latents(pixels, 3, 4, 6), expected, atol=1e-6)


@pytest.mark.parametrize("frame", range(9))
def test_a_latent_frame_sees_its_own_video_frames_and_no_others(frame: int) -> None:
    """The first latent frame holds one video frame, every later one four (the 4n+1 rule)."""
    pixels = torch.zeros(1, 9, 16, 16)
    pixels[:, frame] = 1
    expected = torch.zeros(3)
    expected[(frame + 3) // 4] = 1.0 if frame == 0 else 0.25
    assert torch.allclose(lip_mask_to_latents(pixels, 3, 2, 2)[0, 0].mean((1, 2)), expected)


def test_a_small_mouth_between_sample_points_is_not_lost() -> None:
    pixels = torch.zeros(1, 1, 64, 64)
    pixels[:, :, 32, 32] = 1  # one pixel of the 64 under a latent
    assert lip_mask_to_latents(pixels, 1, 8, 8).sum() == pytest.approx(1 / 64)


def test_the_share_of_the_picture_is_kept_and_values_stay_between_0_and_1() -> None:
    pixels = (torch.rand(2, 5, 40, 24) > 0.7).float()
    small = lip_mask_to_latents(pixels, 2, 5, 3)
    assert small.shape == (2, 1, 2, 5, 3)
    assert 0 <= small.min() <= small.max() <= 1
    assert small[:, 0, 1].mean() == pytest.approx(float(pixels[:, 1:].mean()), abs=1e-5)


def test_frames_that_do_not_belong_to_the_latents_are_refused() -> None:
    with pytest.raises(SettingsError, match="3 latent frames need a lip mask of 9 frames, but it has 8"):
        lip_mask_to_latents(torch.zeros(1, 8, 16, 16), 3, 2, 2)
