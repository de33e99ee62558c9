"""Calibration of a trained model on its training clips: openings of the mouth and head motion as large as people's.

A sampler of few steps and the smoothing on decoding make extremes rarer than they are: lips nearly meet, and wide mouths are less wide.
The map from generated to shown openings gives the generated ones the distribution of the true ones (quantile by quantile), and the
gains of head motion give it the true spread. Wide openings are then eased, as the default expression of a model is more than the median
person's and would make wide mouths wider still. All is stored with the codec. The fits see no validation clip; the
curve was chosen once, see `EASED_GAIN`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fantasytalking.autoencoder.mesh_codec import POSE_DIMENSIONS, MeshCodec, smooth_over_time
from fantasytalking.data.motion_dataset import MotionDataset
from fantasytalking.data.samples import Sample
from fantasytalking.pipeline.progress import stage
from fantasytalking.training.embedded.intensity_gains import fit_intensity_gains
from fantasytalking.training.embedded.mouth_validation import inference_settings, sample_latents
from fantasytalking.training.trainer.config import TrainConfig
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["calibrate", "ease_openings", "fit_gain", "fit_openings", "one_a_person"]

BATCH = 16
STEEPEST = 2.5  # of the map of openings
LARGEST_GAIN = 1.6
SMALL, SMALL_GAIN = 0.035, 1.2
"""Openings up to which the curve is a line, so that lips close as far as before, and the slope of that line."""
EASED_GAIN, EASED_LIMIT, LEAST_SLOPE = 1.42, 0.1, 0.3
"""Of the curve behind it, by which openings are eased: 0.05 becomes 0.063, 0.1 becomes 0.123, 0.2 becomes 0.175, and 0.3 becomes 0.205.

It was chosen once, at `w_face` 0.6, on openings of syllables and of the validation clips: it leaves closures and vowels as far apart as
before where the spread over the clips is smaller. So these two figures are not untouched.
"""


def fit_openings(codec: MeshCodec, generated: Tensor, true: Tensor) -> None:
    """Fit the map of openings: `generated` and `true` are openings of any shape, one unit being the distance between the eyes."""
    ranks = torch.linspace(0.01, 0.99, 99)
    x, y = (
        torch.quantile(values.flatten()[:: max(1, values.numel() // 200_000)], ranks) for values in (generated, true)
    )
    knots = codec.opening_knots[0]
    place = torch.searchsorted(x, knots).clamp(1, len(x) - 1)
    share = ((knots - x[place - 1]) / (x[place] - x[place - 1]).clamp_min(1e-6)).clamp(0, 1)
    wanted = y[place - 1] + share * (y[place] - y[place - 1])
    # beyond the outermost quantiles with a slope of 1, and never so steep that noise is enlarged much
    wanted = wanted + (knots - knots.clamp(float(x[0]), float(x[-1])))
    step = (knots[1:] - knots[:-1]) * STEEPEST
    shown = [wanted[0]]
    for limit, target in zip(step, wanted[1:], strict=True):
        shown.append(torch.minimum(torch.maximum(target, shown[-1] + 0.02 * limit), shown[-1] + limit))
    codec.opening_knots[1] = torch.stack(shown)


def ease_openings(codec: MeshCodec) -> None:
    """Bend the map of openings y, of which those up to `SMALL` are enlarged alike.

    Wider ones become SMALL_GAIN * SMALL + EASED_GAIN * EASED_LIMIT * tanh((y - SMALL) / EASED_LIMIT), and go on with the least slope
    where the curve is flatter.
    """
    shown = codec.opening_knots[1]
    end = EASED_LIMIT * math.acosh(math.sqrt(EASED_GAIN / LEAST_SLOPE))  # there the slope is the least one
    wider = (shown - SMALL).clamp_min(0)
    curved = EASED_GAIN * EASED_LIMIT * torch.tanh(wider.clamp_max(end) / EASED_LIMIT) + LEAST_SLOPE * (
        wider - end
    ).clamp_min(0)
    codec.opening_knots[1] = shown.clamp(max=0) + SMALL_GAIN * shown.clamp(0, SMALL) + curved


def fit_gain(codec: MeshCodec, generated: Tensor, true: Tensor) -> None:
    """Fit the gains of head motion [N, F, 6] so that the median window moves as much as the true one."""
    ratio = (true.std(1) / generated.std(1).clamp_min(1e-6)).median(0).values
    codec.pose_gain.copy_(ratio.clamp(1 / LARGEST_GAIN, LARGEST_GAIN))


@torch.no_grad()
def calibrate(
    model: FantasyTalkingTransformer3DModel, dataset: MotionDataset, config: TrainConfig, w_face: float = 0.5
) -> dict[str, tuple[float, ...]]:
    """Fit the codec's `opening_knots` and `pose_gain` to windows of the training clips, generated with the model's own defaults.

    Args:
        model: Trained transformer.
        dataset: Windows of the training tracks without augmentation; its codec is changed.
        config: Configuration of the run.
        w_face: The model's default of that setting.

    Returns:
        Gains that make motion follow the intensities, see `fit_intensity_gains`.
    """
    codec, windows = dataset.codec, one_a_person(dataset)
    if not windows:
        return fit_intensity_gains(model, dataset, windows, inference_settings(config))
    settings = inference_settings(config)
    generated: list[Tensor] = []
    with stage("calibration", len(windows)) as advance:
        for begin in range(0, len(windows), BATCH):
            some = windows[begin : begin + BATCH]
            speech = [s.audio for s in some if s.audio is not None]
            latents = sample_latents(model, some, speech, settings, codec.audio_channels)
            generated.append(codec.from_latents(latents))
            for _ in some:
                advance()
    shown, true = torch.cat(generated), codec.from_latents(torch.stack([s.latents for s in windows]), noise=0.0)
    k = codec.coefficients
    fit_openings(codec, codec.gap_of(shown[..., :k]), codec.gap_of(true[..., :k]))
    ease_openings(codec)
    poses = torch.stack([smooth_over_time(row, 2.0) for row in shown[..., k : k + POSE_DIMENSIONS]])
    fit_gain(codec, poses, true[..., k : k + POSE_DIMENSIONS])
    return fit_intensity_gains(model, dataset, windows, replace(settings, w_face=w_face))


def one_a_person(dataset: MotionDataset) -> list[Sample]:
    """A window of every person, from the middle of a clip."""
    windows = []
    for name in dataset.people.names:
        tracks = dataset.people.groups[name]
        track = tracks[len(tracks) // 2]
        room = max(len(track) - dataset.num_frames - 1, 0)
        windows.append(dataset.window(track, room // 2, dataset.num_frames))
    return windows
