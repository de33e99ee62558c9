"""Interface between the pipeline and an autoencoder; Wan's VAE and that of the embedded model implement it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.dub_areas import Area
from fantasytalking.geometry import Strides
from fantasytalking.perception.faces import Face


@dataclass(frozen=True)
class Reference:
    """The portraits of a batch.

    Attributes:
        images: [B, 3, H, W] in [-1, 1].
        faces: The chosen face of each portrait; None takes the largest face that the autoencoder finds.
    """

    images: Tensor
    faces: tuple[Face, ...] | None = None


@dataclass(frozen=True)
class Beginning:
    """Frames that a video begins with because it continues another one.

    Attributes:
        frames: [B, 3, 4 k - 3, H, W] in [-1, 1].
        latents: [B, C, k, h, w], the frames encoded.
    """

    frames: Tensor
    latents: Tensor


@dataclass(frozen=True)
class FilmedFace:
    """The face in footage that is dubbed.

    Attributes:
        meshes: Its mesh in each frame [n, 468, 3] in pixels.
        shares: How far each frame is dubbed [n], 0 (as filmed) to 1.
        rate: Frames per second of the footage.
        frame: Reads the frame of a number, uint8 [H, W, 3].
        area: What is made anew: "lips" (mouth and chin) or "face".
    """

    meshes: NDArray[np.float32]
    shares: NDArray[np.float32]
    rate: float
    frame: Callable[[int], NDArray[np.uint8]]
    area: Area


Dubber = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]
"""Makes a frame with new speech: its number and the frame as filmed, uint8 [H, W, 3] -> uint8 [H, W, 3]."""


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

    @property
    def latents_are_pictures(self) -> bool:
        """Whether latents have places in the picture: then footage is dubbed by making those of the face anew and keeping the rest."""

    def area_to_latents(self, area: Tensor) -> Tensor:
        """Bring shares of an area of the picture to latents: [B, F, H, W] -> [B, 1, f, h, w]; only for latents that are pictures."""

    def dub(self, latents: Tensor, reference: Reference, face: FilmedFace, frames: int, fps: float) -> Dubber:
        """Bring a sampled clip into footage.

        Args:
            latents: [1, C, f, h, w].
            reference: The frame of the footage that the clip was made from.
            face: The face in the footage.
            frames: Frames of the clip, from the footage's first on, that have speech.
            fps: Frames per second of the clip.
        """

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

    def enliven(self, latents: Tensor, seed: int, w_face: float, given: int) -> Tensor:
        """Add motion that speech does not determine and that this autoencoder's latents can hold, such as blinks: [B, C, f, h, w].

        Args:
            latents: Sampled latents [B, C, f, h, w].
            seed: Seed of what is drawn.
            w_face: Intensity of facial motion, 0..1.
            given: Number of latent frames that a continued video begins with, which stay as they are; 0 for a new video.
        """

    def decode(self, latents: Tensor, reference: Reference) -> Tensor:
        """Decode latents: [B, C, f, h, w] -> [B, 3, F, H, W] in [-1, 1]."""

    def decode_frames(
        self, latents: Tensor, reference: Reference, continued: bool = False, aside: bool = True
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode one sample and give its frames as they are made.

        Args:
            latents: [1, C, f, h, w].
            reference: The portrait.
            continued: Whether the video continues another one, so that its first frame is not the portrait.
            aside: Whether a second thread may work on the next frames meanwhile.

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
