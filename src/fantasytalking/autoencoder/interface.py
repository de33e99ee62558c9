"""Interface between the pipeline and an autoencoder; Wan's VAE and that of the embedded model implement it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.geometry import Strides
from fantasytalking.perception.faces import Face

CONTINUED_FRAMES = 9
"""Frames (4 k - 3) of a previous video that a continued one begins with: a third of a second."""


@dataclass(frozen=True)
class Reference:
    """The portraits of a batch.

    Attributes:
        images: [B, 3, H, W] in [-1, 1].
        faces: The chosen face of each portrait; None takes the largest face that the autoencoder finds.
        intensities: `w_face` and `w_body` of each video, 0..1, for an autoencoder that moves the portrait itself; None: the model's usual.
    """

    images: Tensor
    faces: tuple[Face, ...] | None = None
    intensities: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class Beginning:
    """Frames that a video begins with because it continues another one.

    Attributes:
        frames: [B, 3, 4 k - 3, H, W] in [-1, 1].
        latents: [B, C, k, h, w], the frames encoded.
    """

    frames: Tensor
    latents: Tensor


class VideoAutoencoder(Protocol):
    """Map between pixels and latents that is given the portrait. Latents are normalised to about unit variance.

    Letters: B batch, F = 4 f - 3 frames, f latent frames, C latent channels, h x w latent size.
    """

    strides: Strides

    @property
    def latent_channels(self) -> int:
        """Number of latent channels C."""

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, f, h, w) of the latents of a video of that many frames and pixels."""

    def encode(self, video: Tensor, reference: Reference) -> Tensor:
        """Encode videos: [B, 3, F, H, W] in [-1, 1] -> [B, C, f, h, w]."""

    @property
    def audio_channels(self) -> Tensor | None:
        """Latent channels on which guidance of speech beyond a scale of 1 acts: [C], 1 or 0; None stands for all."""

    def condition(self, reference: Reference, num_frames: int, beginning: Beginning | None = None) -> Tensor:
        """Make the image latents that the transformer is given: [B, 4 + C, f, h, w], four mask channels first.

        Args:
            reference: The portraits.
            num_frames: F.
            beginning: First frames of a video that continues another one; None where only the portrait is given.
        """

    def enliven(self, latents: Tensor, seed: int, w_face: float, given: int, first: int = 0) -> Tensor:
        """Add motion that speech does not determine and that this autoencoder's latents can hold, such as blinks: [B, C, f, h, w].

        Args:
            latents: Sampled latents [B, C, f, h, w].
            seed: Seed of what is drawn.
            w_face: Intensity of facial motion, 0..1.
            given: Number of latent frames that a continued video begins with, which stay as they are; 0 for a new video.
            first: Number of the first video frame, for a later part of a long video.
        """

    def decode(self, latents: Tensor, reference: Reference) -> Tensor:
        """Decode latents: [B, C, f, h, w] -> [B, 3, F, H, W] in [-1, 1]."""

    def decode_frames(
        self,
        latents: Tensor,
        reference: Reference,
        continued: bool = False,
        aside: bool = True,
        count: int | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode one sample and give its frames as they are made.

        Args:
            latents: [1, C, f, h, w].
            reference: The portrait.
            continued: Whether the video continues another one, so that its first frame is not the portrait.
            aside: Whether a second thread may work on the next frames meanwhile.
            count: How many of the frames are asked for, from the first on; None: all. More may be given.

        Yields:
            uint8 [H, W, 3].
        """


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Convert images to bytes: [..., 3, H, W] in [-1, 1] -> [..., H, W, 3] uint8, rounded."""
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
        height: h.
        width: w.
        time_stride: Number of mask channels.
        given: Number of given latent frames, from the first on; more than one where a video is continued.
    """
    mask = torch.zeros(batch, time_stride, latent_frames, height, width)
    mask[:, :, :given] = 1
    return mask


@runtime_checkable
class PreparesDecoding(Protocol):
    """An autoencoder whose decoding needs work that depends on the portrait alone."""

    def prepare(self, reference: Reference) -> None:
        """Begin it in the background for a video of the first portrait; without it, `decode_frames` does it."""


def prepare_decoding(autoencoder: VideoAutoencoder, reference: Reference) -> None:
    """Begin in the background what decoding a video of the first portrait needs, if there is any."""
    if isinstance(autoencoder, PreparesDecoding):
        autoencoder.prepare(reference)
