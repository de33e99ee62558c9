"""What the pipeline asks of an autoencoder; Wan's VAE and the embedded model's both answer it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.geometry import Strides
from fantasytalking.perception.faces import Face


@dataclass(frozen=True)
class Reference:
    """The portraits that a batch is about.

    Attributes:
        images: [B, 3, H, W] in [-1, 1].
        faces: the chosen face of each portrait, or None where the autoencoder may look for itself (largest face).
    """

    images: Tensor
    faces: tuple[Face, ...] | None = None


@dataclass(frozen=True)
class Beginning:
    """What a video begins with because it continues another one.

    Attributes:
        frames: [B, 3, 4 k - 3, H, W] in [-1, 1].
        latents: [B, C, k, h, w], the same encoded.
    """

    frames: Tensor
    latents: Tensor


class VideoAutoencoder(Protocol):
    """Pixels to latents and back, told the portrait. Latents are normalised to about unit variance.

    Letters: B batch, F = 4 f - 3 frames, f latent frames, C latent channels, h x w latent size.
    """

    strides: Strides

    @property
    def latent_channels(self) -> int:
        """C."""

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, f, h, w) of a video of that many frames and pixels."""

    def encode(self, video: Tensor, reference: Reference) -> Tensor:
        """[B, 3, F, H, W] in [-1, 1] -> [B, C, f, h, w]."""

    @property
    def audio_channels(self) -> Tensor | None:
        """[C], 1 for the latent channels on which a guidance scale of speech above 1 acts, 0 for the others; None: on all."""

    def condition(self, reference: Reference, num_frames: int, beginning: Beginning | None = None) -> Tensor:
        """What the transformer is shown: [B, 4 + C, f, h, w], four mask channels first.

        Args:
            reference: the portraits.
            num_frames: F.
            beginning: of a video that continues another one; None: only the portrait is given.
        """

    def decode(self, latents: Tensor, reference: Reference) -> Tensor:
        """[B, C, f, h, w] -> [B, 3, F, H, W] in [-1, 1]."""

    def decode_frames(
        self, latents: Tensor, reference: Reference, continued: bool = False
    ) -> Iterator[NDArray[np.uint8]]:
        """One sample's frames ([1, C, f, h, w]) as they are made: [H, W, 3] uint8 each.

        `continued` says that the video goes on where another one ended, so that its first frame is not the portrait.
        """


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """[..., 3, H, W] in [-1, 1] -> [..., H, W, 3] uint8, rounded."""
    scaled = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(scaled.movedim(-3, -1).cpu().numpy())


def from_uint8(images: NDArray[np.uint8]) -> Tensor:
    """Inverse of `to_uint8`: [..., H, W, 3] uint8 -> [..., 3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"])).movedim(-1, -3).float() / 127.5 - 1


def first_frame_mask(
    batch: int, latent_frames: int, height: int, width: int, time_stride: int = 4, given: int = 1
) -> Tensor:
    """Wan's image-to-video mask [B, 4, f, h, w]: one where a latent frame's pixels are given, else zero.

    Args:
        batch: B.
        latent_frames: f.
        height: h, in latent pixels.
        width: w, in latent pixels.
        time_stride: Mask channels.
        given: Latent frames that are given, from the first on; more than one where a video is continued.
    """
    mask = torch.zeros(batch, time_stride, latent_frames, height, width)
    mask[:, :, :given] = 1
    return mask
