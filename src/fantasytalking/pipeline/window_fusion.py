"""A video longer than the model's clips, denoised as a whole: at each step the model sees one window after the other, and what it predicts
is averaged where windows overlap.

Source: MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113), in time; the portrait is the given frame of every window.

Letters: B samples, C channels, f latent frames of the video and w of a window, h and w latent rows and columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fantasytalking.conditioning.conditions import AudioCondition, replace
from fantasytalking.guidance import Pass
from fantasytalking.pipeline.guidance_passes import Denoiser, Guidance, GuidancePasses, Place

__all__ = ["FusedPasses", "Window"]


@dataclass(frozen=True)
class Window:
    """A stretch of the latent frames.

    Attributes:
        first: Number of its first latent frame.
        weights: Weight of each of its latent frames [w]; over the windows they add up to 1.
        audio: What it hears, or None.
        image_latents: [B, 4 + C, w, h, w], what it is given, where that is not what the others are given.
    """

    first: int
    weights: Tensor
    audio: AudioCondition | None
    image_latents: Tensor | None = None


class FusedPasses:
    """Guidance passes of a long video, as `GuidancePasses` runs them for a clip.

    Args:
        model: Predicts the velocity.
        guidance: Guidance of all windows, without speech.
        image_latents: [B, 4 + C, w, h, w], mask and latents of the portrait for each window.
        windows: The windows, all of one length.
    """

    def __init__(self, model: Denoiser, guidance: Guidance, image_latents: Tensor, windows: Sequence[Window]) -> None:
        self.windows, self._guidance = windows, guidance
        names = [f"{number}:" if len(windows) > 1 else "" for number in range(len(windows))]
        self._passes = [
            GuidancePasses(
                model,
                self._heard(guidance, window),
                image_latents if window.image_latents is None else window.image_latents,
                name,
            )
            for window, name in zip(windows, names, strict=True)
        ]

    @staticmethod
    def _heard(guidance: Guidance, window: Window) -> Guidance:
        return dataclasses.replace(guidance, conditions=replace(guidance.conditions, audio=window.audio))

    @property
    def batching(self) -> str:
        """Whether the passes of a step run as one batch."""
        return self._passes[0].batching

    @property
    def guidance(self) -> Guidance:
        """Guidance of all windows; another one may be set between two steps."""
        return self._guidance

    @guidance.setter
    def guidance(self, guidance: Guidance) -> None:
        if guidance is self._guidance:
            return
        self._guidance = guidance
        for window, passes in zip(self.windows, self._passes, strict=True):
            passes.guidance = self._heard(guidance, window)

    def run(
        self, which: Sequence[Pass], latents: Tensor, timestep: Tensor, place: Place | None = None
    ) -> dict[Pass, Tensor]:
        """Predict the velocities of some passes; the arguments are those of `GuidancePasses.run`.

        Returns:
            Pass -> velocity [B, C, f, h, w], float32.
        """
        fused = {one: torch.zeros_like(latents, dtype=torch.float32) for one in which}
        for window, passes in zip(self.windows, self._passes, strict=True):
            weights = window.weights.to(latents.device).view(1, 1, -1, 1, 1)
            stretch = slice(window.first, window.first + len(window.weights))
            for one, velocity in passes.run(which, latents[:, :, stretch], timestep, place).items():
                fused[one][:, :, stretch] += weights * velocity.float()
        return fused
