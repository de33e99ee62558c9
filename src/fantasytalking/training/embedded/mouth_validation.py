"""Validation of the embedded model without rendering: generated and true mouth opening, from the meshes that the latents encode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.data.motion_dataset import MotionDataset
from fantasytalking.data.samples import Sample
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.sampling import denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.training.trainer.config import TrainConfig
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

WINDOWS_PER_TRACK = 3
CLOSED = 0.03  # opening of lips that touch, as expressions mean it, in distances between the eyes


def even_windows(dataset: MotionDataset, per_track: int = WINDOWS_PER_TRACK) -> list[Sample]:
    """Cut `per_track` evenly spaced windows from each track."""
    windows = []
    for name in dataset.people.names:
        for track in dataset.people.groups[name]:
            room = len(track) - dataset.num_frames - 1
            for start in np.unique(np.linspace(0, max(room, 0), per_track).astype(int)):
                windows.append(dataset.window(track, int(start), dataset.num_frames))
    return windows


@torch.no_grad()
def sample_latents(
    model: FantasyTalkingTransformer3DModel,
    samples: Sequence[Sample],
    audio: Sequence[Tensor],
    settings: GenerationSettings,
    audio_channels: Tensor | None = None,
) -> Tensor:
    """Generate the latents of many windows as one batch, through the sampler of the pipeline.

    Args:
        model: Transformer without text and image encoder, on any device.
        samples: B windows of one size; the model does not see their latents.
        audio: Speech features [t, d] for each of the B windows, as long as a window; may differ from the samples' own speech.
        settings: Steps, shift, guidance, identity scale, intensities and seed.
        audio_channels: Guidance channels [C], see `Guidance`.

    Returns:
        Latents [B, C, f, h, w], float32, on the CPU.
    """
    # Drawn on the CPU, so that a seed gives the same windows on every device.
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(len(samples), *samples[0].latents.shape, generator=generator).to(model.device)
    image_latents = torch.stack([s.condition for s in samples]).to(model.device)
    told = _conditions(samples, audio, settings, has_motion=model.config.motion).to(model.device, model.dtype)
    guidance = Guidance.of_settings(settings, told, audio_channels=audio_channels)
    schedule = make_schedule(FlowMatchEulerDiscreteScheduler(), settings, model.device)
    return denoise(model, schedule, noise, image_latents, guidance).cpu()


def _conditions(
    samples: Sequence[Sample], audio: Sequence[Tensor], settings: GenerationSettings, has_motion: bool
) -> Conditions:
    num_frames = Strides().num_frames(samples[0].latents.shape[1])
    ranges = window_ranges(len(audio[0]), num_frames).expand(len(samples), -1, -1)
    identity = [s.identity for s in samples if s.identity is not None]
    motion = torch.tensor([[settings.w_face, settings.w_body]]).expand(len(samples), -1)
    return Conditions(
        text=torch.stack([s.text for s in samples]),
        audio=AudioCondition(torch.stack(list(audio)), ranges, scale=settings.audio_scale),
        identity=IdentityCondition(torch.stack(identity), settings.identity_scale) if identity else None,
        motion=motion if has_motion else None,
    )


def openings(codec: MeshCodec, latents: Tensor) -> Tensor:
    """Opening of the mouth that latents [N, C, f, h, w] mean, in distances between the eyes: [N, F]."""
    return codec.gap_of(codec.from_latents(latents)[..., : codec.coefficients])


def opening_correlation(generated: Tensor, true: Tensor) -> Tensor:
    """Pearson correlation [N] of two sets of opening curves [N, F]; 0 where one of them does not move."""
    a, b = (curves - curves.mean(1, keepdim=True) for curves in (generated, true))
    result: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-9)
    return result


def inference_settings(config: TrainConfig, guidance: float = 2.0, steps: int = 10) -> GenerationSettings:
    """Settings with which windows are generated: the noise shift and identity scale of the run, as the exported model has them."""
    return GenerationSettings(
        steps=steps,
        sigma_shift=config.shift,
        audio_guidance_scale=guidance,
        prompt_guidance_scale=1.0,
        identity_scale=config.identity_scale,
        # One pass at a time, so that the figures of a run do not depend on how much memory is free.
        batch_passes="off",
    )


class Validation:
    """Validation with own and exchanged speech, on windows that are never trained on.

    Args:
        dataset: Windows of held-out tracks.
        config: Configuration of the run; its noise shift and identity scale are used.
        guidance: Audio guidance scale; 1 runs one pass per step.
        steps: Denoising steps.
    """

    def __init__(self, dataset: MotionDataset, config: TrainConfig, guidance: float = 2.0, steps: int = 10) -> None:
        self.codec, self.windows = dataset.codec, even_windows(dataset)
        self.settings = inference_settings(config, guidance, steps)

    def __call__(self, model: FantasyTalkingTransformer3DModel) -> dict[str, float]:
        """Validate a model.

        Returns:
            `r` and `r_shuffled`: correlation of the mouth opening with the truth, given the own speech and another clip's.
            `spread`: median ratio of the opening's standard deviation to the true one; `closed`: share of frames with closed lips that
            are closed in the generated windows too.
            `expression` and `head`: standard deviation of these latents, relative to the truth.
        """
        samples = self.windows
        audio = [s.audio for s in samples if s.audio is not None]
        other = audio[len(audio) // 2 :] + audio[: len(audio) // 2]
        expression = self.codec.audio_channels.bool()
        own, exchanged = (
            sample_latents(model, samples, heard, self.settings, self.codec.audio_channels) for heard in (audio, other)
        )
        true = torch.stack([s.latents for s in samples])
        wanted, shown, mistaken = (openings(self.codec, latents) for latents in (true, own, exchanged))
        closed = wanted < CLOSED
        return {
            "r": float(opening_correlation(shown, wanted).mean()),
            "r_shuffled": float(opening_correlation(mistaken, wanted).mean()),
            "spread": float((shown.std(1) / wanted.std(1).clamp_min(1e-6)).median()),
            "closed": float((shown[closed] < CLOSED).float().mean()) if bool(closed.any()) else 0.0,
            "expression": float(own[:, expression].std() / true[:, expression].std()),
            "head": float(own[:, ~expression].std() / true[:, ~expression].std()),
        }
