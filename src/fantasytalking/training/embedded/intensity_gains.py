"""How far a model's motion follows the intensities `w_face` and `w_body`, and the gains that make up for the rest.

An intensity stands for a rank among the training windows (paper, section 3.3): 0 is the stillest one, 1 the liveliest. A small
transformer follows it in part only, so that the extremes are out of reach. The gains, which decoding applies, give the motion at each
intensity the size, relative to that at the model's default, that windows of the footage have at that rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fantasytalking.autoencoder.mesh_codec import POSE_DIMENSIONS, smooth_over_time
from fantasytalking.data.motion_dataset import IntensityScale, MotionDataset
from fantasytalking.data.samples import Sample
from fantasytalking.pipeline.progress import stage
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.training.embedded.mouth_validation import sample_latents
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["INTENSITIES", "fit_intensity_gains"]

INTENSITIES = tuple(round(0.1 * step, 1) for step in range(11))
LEAST, MOST = 0.3, 1.8
"""Limits of a gain. More than the most is noise of the sampler, enlarged; with less than the least, nothing would be seen of the motion."""
BATCH = 16


@torch.no_grad()
def fit_intensity_gains(
    model: FantasyTalkingTransformer3DModel,
    dataset: MotionDataset,
    windows: Sequence[Sample],
    settings: GenerationSettings,
) -> dict[str, tuple[float, ...]]:
    """Fit `face_gains` and `body_gains` of the mesh autoencoder, at `INTENSITIES`, to what a model makes of some windows.

    Args:
        model: Trained transformer.
        dataset: Its codec is used, which is calibrated, and its scale of intensities.
        windows: Windows of the training split.
        settings: Steps, guidance and seed; their own intensities are those at which no gain is applied.

    Returns:
        Gains by name of the argument of `MeshAutoencoder`; none of either without a motion network or without windows.
    """
    if not model.config.motion or not windows:
        return {"face_gains": (), "body_gains": ()}
    usual = settings.w_face, settings.w_body
    made: list[list[float]] = []
    with stage("intensities", 2 * len(INTENSITIES)) as advance:
        for column in range(2):
            sizes = []
            for value in sorted({*INTENSITIES, usual[column]}):
                told = replace(settings, w_face=value) if column == 0 else replace(settings, w_body=value)
                sizes.append(_size(model, dataset, windows, told)[column])
                advance()
            made.append(sizes)
    rows = [_gains(dataset.intensity, column, made[column], usual[column]) for column in range(2)]
    return {"face_gains": rows[0], "body_gains": rows[1]}


def _size(
    model: FantasyTalkingTransformer3DModel,
    dataset: MotionDataset,
    windows: Sequence[Sample],
    settings: GenerationSettings,
) -> tuple[float, float]:
    """Size of the motion that is shown: median over windows of the spread of the opening, and of that of the head in its own units."""
    codec, k = dataset.codec, dataset.codec.coefficients
    openings, heads = [], []
    for begin in range(0, len(windows), BATCH):
        some = windows[begin : begin + BATCH]
        speech = [sample.audio for sample in some if sample.audio is not None]
        latents = sample_latents(model, some, speech, settings, codec.audio_channels)
        shown = codec.shown(codec.from_latents(latents))
        openings.append(codec.gap_of(shown[..., :k]).clamp(min=0).std(1))
        poses = torch.stack([smooth_over_time(row, 2.0) for row in shown[..., k : k + POSE_DIMENSIONS]])
        heads.append((poses / codec.pose_std[:POSE_DIMENSIONS]).var(1).mean(1).sqrt())
    return float(torch.cat(openings).median()), float(torch.cat(heads).median())


def _gains(scale: IntensityScale, column: int, made: Sequence[float], usual: float) -> tuple[float, ...]:
    """Gains at `INTENSITIES`, which are 1 at the usual one."""
    spread = np.sqrt(scale.percentiles[:, column].numpy())
    values = np.array(sorted({*INTENSITIES, usual}))
    wanted = np.interp(values, np.linspace(0, 1, len(spread)), spread)
    at, sizes = int(np.flatnonzero(values == usual)[0]), np.maximum(np.array(made), 1e-9)
    gains = (wanted / wanted[at]) / (sizes / sizes[at])
    found = np.interp(INTENSITIES, values, gains).clip(LEAST, MOST)
    return tuple(round(float(gain), 3) for gain in found)
