"""Footage in latents that are pictures: what lies outside the dubbed area is kept from the source at every noise level.

Letters: C latent channels, F frames of the clip, f latent frames, h and w latent rows and columns, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool3d

from fantasytalking.autoencoder import Reference, VideoAutoencoder, from_uint8
from fantasytalking.autoencoder.dub_areas import Area, dub_outline, soft_area
from fantasytalking.flow import noised
from fantasytalking.geometry import Strides
from fantasytalking.media.video import iterate_frames
from fantasytalking.pipeline.footage_inputs import Footage
from fantasytalking.pipeline.noise_schedule import Schedule
from fantasytalking.pipeline.sampling import StepHook

__all__ = ["KeptFootage", "encode_footage"]


@dataclass(frozen=True)
class KeptFootage:
    """The latents of the source and where they are made anew.

    Attributes:
        latents: [1, C, f, h, w], clean.
        area: Share of each latent that is made anew [1, 1, f, h, w].
        strength: Share of the steps that are taken.
    """

    latents: Tensor
    area: Tensor
    strength: float

    def part(self, first: int, count: int) -> KeptFootage:
        """What belongs to `count` latent frames from number `first` on; the last one stands for those that are missing."""
        chosen = torch.arange(first, first + count).clamp_max(self.latents.shape[2] - 1)
        return dataclasses.replace(self, latents=self.latents[:, :, chosen], area=self.area[:, :, chosen])

    def begin(self, schedule: Schedule, noise: Tensor) -> tuple[Schedule, Tensor]:
        """The steps that are taken, and the source at the first one's noise level, [1, C, f, h, w]."""
        part = schedule.last_part(self.strength)
        return part, noised(self.latents.to(noise), noise, part.sigmas[:1].to(noise))

    def keep(self, schedule: Schedule, noise: Tensor) -> StepHook:
        """A hook that puts the source, at the noise level of each step, back outside the area.

        Args:
            schedule: The steps that are taken.
            noise: The noise that sampling begins with.
        """
        sigmas = schedule.sigmas

        def put(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
            end = sigmas[step + 1] if step + 1 < len(sigmas) else sigmas.new_zeros(())
            source = noised(self.latents.to(latents), noise.to(latents), end.to(latents).expand(len(latents)))
            area = self.area.to(latents)
            return area * latents + (1 - area) * source

        return put


def encode_footage(
    autoencoder: VideoAutoencoder,
    footage: Footage,
    reference: Reference,
    frames: int,
    fps: float,
    area: Area,
    strength: float,
) -> KeptFootage:
    """Encode the footage at a clip's frame rate and size.

    Args:
        autoencoder: Encodes it; its latents are pictures.
        footage: The footage.
        reference: Its first frame, at the clip's size.
        frames: F; after the footage's end its last frame is repeated.
        fps: Frames per second of the clip.
        area: What is made anew.
        strength: Share of the steps that are taken.
    """
    height, width = reference.images.shape[-2:]
    pictures = np.stack(list(_resized(footage, frames, fps, (width, height))))
    areas = np.stack([_area_at(footage, number / fps, area, (height, width)) for number in range(frames)])
    video = from_uint8(pictures).movedim(0, 1)[None].to(reference.images)
    latents = autoencoder.encode(video, reference)
    shares = _area_to_latents(torch.from_numpy(areas), autoencoder.strides)
    return KeptFootage(latents, shares.to(latents), strength)


def _area_to_latents(area: Tensor, strides: Strides) -> Tensor:
    """Shares of an area [F, H, W], F = 4 f - 3 -> [1, 1, f, h, w], averaged over the pixels and frames of each latent."""
    filled = torch.cat([area[:1].expand(strides.time - 1, -1, -1), area])[None, None].float()
    return avg_pool3d(filled, (strides.time, strides.height, strides.width))


def _resized(footage: Footage, frames: int, fps: float, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    last, done = None, 0
    for frame in iterate_frames(footage.video.path, fps, frames):
        last = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
        yield last
        done += 1
    while last is not None and done < frames:
        yield last
        done += 1


def _area_at(footage: Footage, time: float, area: Area, size: tuple[int, int]) -> NDArray[np.float32]:
    """Shares of the area [H, W] at a time in seconds, at the clip's size."""
    index = min(round(time * float(footage.video.rate)), footage.video.frames - 1)
    mesh = np.array(footage.face.meshes[index])
    scale = np.array([size[1] / footage.video.width, size[0] / footage.video.height], np.float32)
    outline = (dub_outline(mesh, area) + 0.5) * scale - 0.5
    return np.asarray(footage.face.shares[index] * soft_area(mesh, outline, size, float(scale.mean())), np.float32)
