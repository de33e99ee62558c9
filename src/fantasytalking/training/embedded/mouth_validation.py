"""Validation of the embedded model without rendering: generated against true mouth opening, from the mesh that latents stand for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.data.motion_dataset import MotionDataset
from fantasytalking.data.samples import Sample
from fantasytalking.geometry import TIME_STRIDE
from fantasytalking.perception.landmarks import mouth_opening
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel


def validation_windows(dataset: MotionDataset, per_track: int = 3) -> list[tuple[Sample, Tensor]]:
    """Evenly spread windows of every track, each with the portrait's mesh [468, 3]."""
    windows = []
    for name in dataset.people.names:
        for track in dataset.people.groups[name]:
            room = len(track.points) - dataset.num_frames - 1
            for start in np.unique(np.linspace(0, max(room, 0), per_track).astype(int)):
                windows.append((dataset.window(track, int(start), dataset.num_frames), track.points[start]))
    return windows


@torch.no_grad()
def sample_latents(
    model: FantasyTalkingTransformer3DModel,
    samples: Sequence[Sample],
    audio: Sequence[Tensor],
    steps: int = 10,
    shift: float = 3.0,
    guidance: float = 2.0,
    identity_scale: float = 0.5,
    seed: int = 0,
    audio_channels: Tensor | None = None,
) -> Tensor:
    """Euler sampling of many windows with audio guidance; `audio` may be other speech than the samples' own.

    v = v(no audio) + guidance * (v(audio) - v(no audio)), the released formula without a prompt; on channels where
    `audio_channels` [C] is 0 a scale above 1 counts as 1, as in the pipeline. With guidance 1 the pass without audio is not run.
    """
    shape = (len(samples), *samples[0].latents.shape)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    condition = torch.stack([s.condition for s in samples])
    num_frames = (shape[2] - 1) * TIME_STRIDE + 1
    ranges = window_ranges(len(audio[0]), num_frames).expand(len(samples), -1, -1)
    identity = [s.identity for s in samples if s.identity is not None]
    motion = torch.full((len(samples), 2), 0.5) if model.config.motion else None

    def conditions(scale: float) -> Conditions:
        return Conditions(
            text=torch.stack([s.text for s in samples]),
            audio=AudioCondition(torch.stack(list(audio)), ranges, None, scale),
            identity=IdentityCondition(torch.stack(identity), identity_scale) if identity else None,
            motion=motion,
        )

    scale = torch.full((1, shape[1], 1, 1, 1), float(guidance))
    if audio_channels is not None and guidance > 1:
        scale = 1 + (guidance - 1) * audio_channels.view(1, -1, 1, 1, 1)
    s = torch.linspace(1, 0, steps + 1)
    sigmas = shift * s / (1 + (shift - 1) * s)
    for now, after in itertools.pairwise(sigmas):
        inputs = torch.cat([latents, condition], 1)
        time = (1000 * now).expand(len(samples))
        velocity = model(inputs, time, conditions(1.0)).sample
        if guidance != 1:
            silent = model(inputs, time, conditions(0.0)).sample
            velocity = silent + scale * (velocity - silent)
        latents = latents + (after - now) * velocity
    return latents


def opening_correlation(codec: MeshCodec, latents: Tensor, windows: Sequence[tuple[Sample, Tensor]]) -> Tensor:
    """Pearson r of mouth opening, latents [N, C, f, h, w] against each window's own: [N]."""
    scores = []
    for made, (sample, portrait) in zip(latents, windows, strict=True):
        curves = []
        for z in (made, sample.latents):
            points = codec.points_of(codec.from_latents(z[None])[0], portrait)
            curves.append(mouth_opening(points.numpy()))
        scores.append(float(np.corrcoef(curves[0], curves[1])[0, 1]))
    return torch.tensor(scores)


class Validation:
    """Correlation with own and with exchanged speech, on windows that are never trained on."""

    def __init__(self, dataset: MotionDataset, shift: float, guidance: float = 2.0, steps: int = 10) -> None:
        self.codec, self.shift, self.guidance, self.steps = dataset.codec, shift, guidance, steps
        self.windows = validation_windows(dataset)

    def __call__(self, model: FantasyTalkingTransformer3DModel) -> dict[str, float]:
        """Figures by name: `r` with the true speech, `r_shuffled` with another clip's, `motion` relative to the truth's."""
        samples = [w[0] for w in self.windows]
        audio = [s.audio for s in samples if s.audio is not None]
        other = audio[len(audio) // 2 :] + audio[: len(audio) // 2]
        own, exchanged = (
            sample_latents(
                model, samples, heard, self.steps, self.shift, self.guidance, audio_channels=self.codec.audio_channels
            )
            for heard in (audio, other)
        )
        true = torch.stack([s.latents for s in samples])
        return {
            "r": float(opening_correlation(self.codec, own, self.windows).mean()),
            "r_shuffled": float(opening_correlation(self.codec, exchanged, self.windows).mean()),
            "expression": float(own[:, :8].std() / true[:, :8].std()),
            "head": float(own[:, 8:].std() / true[:, 8:].std()),
        }
