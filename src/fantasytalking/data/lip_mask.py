"""The lip-tracing mask, resampled from pixels to latents (paper, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fantasytalking.errors import SettingsError
from fantasytalking.geometry import Strides


def lip_mask_to_latents(mask: Tensor, latent_frames: int, height: int, width: int) -> Tensor:
    """Resample a pixel mask to latent size by trilinear interpolation.

    Wan's first latent frame holds one video frame and each later one holds four; the first frame is therefore repeated three
    times, so that every latent frame is the mean of its own frames and the mask does not lag.

    Args:
        mask: Mask [B, F, H, W], 0..1, with F = 4 f - 3.
        latent_frames: Latent frames f.
        height: Latent rows h.
        width: Latent columns w.

    Returns:
        Mask [B, 1, f, h, w], 0..1.

    Raises:
        SettingsError: F is not 4 f - 3.
    """
    if Strides().num_frames(latent_frames) != mask.shape[1]:
        raise SettingsError(
            f"{latent_frames} latent frames need a lip mask of {Strides().num_frames(latent_frames)} frames, "
            f"but it has {mask.shape[1]}."
        )
    group = 4 if mask.shape[1] > 1 else 1
    padded = torch.cat([mask[:, :1].expand(-1, group - 1, -1, -1), mask], 1)[:, None].float()
    # Averaged to twice the size first: trilinear sampling alone reads only 2 of the 4 frames of a group and 2 x 2 of the 8 x 8 pixels.
    _batch, _, frames, rows, columns = padded.shape
    size = (min(frames, 2 * latent_frames), min(rows, 2 * height), min(columns, 2 * width))
    small = F.adaptive_avg_pool3d(padded, size)
    return F.interpolate(small, (latent_frames, height, width), mode="trilinear", align_corners=False)
