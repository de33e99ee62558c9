"""Wan2.1's causal video VAE as a `VideoAutoencoder`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder.decode_in_turn import decode_in_turn
from fantasytalking.autoencoder.interface import Beginning, Reference, first_frame_mask, to_uint8
from fantasytalking.autoencoder.repeated_chunks import reuse_repeated_chunks
from fantasytalking.geometry import Strides
from fantasytalking.system.execution_device import execution_device

_STRETCH, _LEAD = 21, 5
"""Latent frames decoded at once where tiles are, the 81 frames of a released clip, and those of the stretch before that lead to them."""


class WanAutoencoder:
    """`diffusers.AutoencoderKLWan` with Wan's normalisation and image latents; the portrait matters only to `condition`."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae
        self.strides = Strides(
            time=vae.config.scale_factor_temporal,
            height=vae.config.scale_factor_spatial,
            width=vae.config.scale_factor_spatial,
        )

    @property
    def latent_channels(self) -> int:
        """Number of latent channels, 16 for the released VAE."""
        return int(self.vae.config.z_dim)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Shape (C, f, h, w) of the latents of a video."""
        return (self.latent_channels, self.strides.latent_frames(num_frames), *self.strides.latent_size(height, width))

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(self.vae.config.latents_mean, device=like.device, dtype=torch.float32).view(shape)
        std = torch.tensor(self.vae.config.latents_std, device=like.device, dtype=torch.float32).view(shape)
        return mean, std

    def encode(self, video: Tensor, reference: Reference | None = None) -> Tensor:
        """Encode videos: [B, 3, F, H, W] in [-1, 1] -> normalised latents [B, C, f, h, w] (the distribution's mode, as released)."""
        given = video.to(execution_device(self.vae), self.vae.dtype)
        latents = self.vae.encode(given).latent_dist.mode().float().to(video.device)
        mean, std = self._statistics(latents)
        result: Tensor = (latents - mean) / std
        return result

    audio_channels: Tensor | None = None

    def enliven(self, latents: Tensor, seed: int, w_face: float, given: int, first: int = 0) -> Tensor:
        """Return the latents as they are: a model of this size draws blinks itself."""
        return latents

    def condition(self, reference: Reference, num_frames: int, beginning: Beginning | None = None) -> Tensor:
        """Make the image latents: mask and latents of a video of the portrait followed by zeros, [B, 4 + C, f, h, w].

        With a `beginning` of k latent frames the video begins with its frames instead, and k latent frames are marked as given.
        """
        images = reference.images
        known = images[:, :, None] if beginning is None else beginning.frames.to(images)
        video = torch.zeros(
            images.shape[0], 3, num_frames, *images.shape[-2:], device=images.device, dtype=images.dtype
        )
        video[:, :, : known.shape[2]] = known
        # All but the first few frames are black.
        with reuse_repeated_chunks(self.vae):
            latents = self.encode(video)
        batch, _, frames, height, width = latents.shape
        given = self.strides.latent_frames(known.shape[2])
        mask = first_frame_mask(batch, frames, height, width, self.strides.time, given).to(latents)
        return torch.cat([mask, latents], 1)

    def decode(self, latents: Tensor, reference: Reference | None = None) -> Tensor:
        """Decode latents: [B, C, f, h, w] -> [B, 3, F, H, W] in [-1, 1]."""
        mean, std = self._statistics(latents)
        raw = (latents.float() * std + mean).to(execution_device(self.vae), self.vae.dtype)
        video: Tensor = self.vae.decode(raw, return_dict=False)[0]
        return video.float().clamp(-1, 1)

    def _decode_stretches(self, latents: Tensor) -> Iterator[NDArray[np.uint8]]:
        """Frames decoded in stretches of a clip, which begin with latent frames of the one before; what both have is cross-faded."""
        held: list[NDArray[np.uint8]] = []
        for start in range(0, latents.shape[2], _STRETCH):
            lead = min(start, _LEAD)
            frames = list(to_uint8(self.decode(latents[:, :, start - lead : start + _STRETCH])[0].movedim(1, 0)))
            # The first latent frame of a stretch gives one frame, which is one of four in the stretch before.
            shared = frames[1 : 1 + len(held)]
            for number, (old, new) in enumerate(zip(held, shared, strict=True)):
                mixed = old + (number + 1) / (len(held) + 1) * (new.astype(np.float32) - old)
                yield np.rint(mixed).astype(np.uint8)
            rest = frames[1 + len(held) :] if start else frames
            is_last = start + _STRETCH >= latents.shape[2]
            kept = 0 if is_last else (_LEAD - 1) * self.strides.time
            yield from rest[: len(rest) - kept]
            held = rest[len(rest) - kept :]

    def decode_frames(
        self,
        latents: Tensor,
        reference: Reference | None = None,
        continued: bool = False,
        aside: bool = True,
        count: int | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode one sample: frames, [H, W, 3] uint8 each, as one latent frame after the other is decoded."""
        if self.vae.use_tiling or self.vae.config.patch_size is not None:
            yield from self._decode_stretches(latents)
            return
        mean, std = self._statistics(latents)
        raw = (latents.float() * std + mean).to(execution_device(self.vae), self.vae.dtype)
        for frames in decode_in_turn(self.vae, raw):
            yield from to_uint8(frames.float().clamp(-1, 1)[0].movedim(1, 0))
