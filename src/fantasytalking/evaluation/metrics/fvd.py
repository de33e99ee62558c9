"""FVD: Frechet distance of short videos, against the real clips (paper, table 1).

Standard: I3D in the StyleGAN-V packaging, 400 logits. Proxy: MobileNetV2 features of the frames and how they change from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.errors import InputError
from fantasytalking.evaluation.footage import Footage, Frames
from fantasytalking.evaluation.metrics.frechet_metric import FrechetMetric
from fantasytalking.evaluation.metrics.proxies import mobilenet, mobilenet_digest
from fantasytalking.evaluation.protocol import Protocol

__all__ = ["centre_square", "motion_features", "proxy", "standard", "starts"]

_PROXY_SIDE = 128
_PROXY_DIM = 48
_LAGS = (1, 4)
_CHANGE_WEIGHT = 4.0
"""Scales changes between frames, which are small, to the spread of the features themselves."""


def starts(frames: int, protocol: Protocol) -> range:
    """Indices of the first frames of a clip's videos."""
    return range(0, frames - protocol.video_frames + 1, protocol.video_stride)


def centre_square(frames: Frames, side: int) -> Frames:
    """Centre square of frames [F, H, W, 3], area- or cubic-resized to `side`: [F, side, side, 3]."""
    height, width = frames.shape[1:3]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    filter = cv2.INTER_AREA if edge >= side else cv2.INTER_CUBIC
    crops = (frame[top : top + edge, left : left + edge] for frame in frames)
    return np.stack([np.asarray(cv2.resize(crop, (side, side), interpolation=filter), np.uint8) for crop in crops])


def motion_features(per_frame: NDArray[np.float32], begins: range, length: int) -> NDArray[np.float32]:
    """Appearance and motion of videos, from features of their frames.

    Args:
        per_frame: [F, d].
        begins: Indices of the videos' first frames.
        length: Frames of a video.

    Returns:
        [n, 3 d]: mean over the video, mean absolute change over 1 frame and over 4, both times a constant.
    """
    parts = []
    for start in begins:
        video = per_frame[start : start + length]
        changes = [np.abs(video[lag:] - video[:-lag]).mean(0) for lag in _LAGS if lag < len(video)]
        parts.append(np.concatenate([video.mean(0), *(_CHANGE_WEIGHT * change for change in changes)]))
    return np.stack(parts).astype(np.float32)


def proxy(device: str = "cpu") -> FrechetMetric:
    """FD-video-mobilenet, with the bundled MobileNetV2."""
    fitted_to = (
        "features of short videos of the generated and of the real clips: MobileNetV2 "
        f"features of each frame at {_PROXY_SIDE} x {_PROXY_SIDE}, projected on {_PROXY_DIM} fixed random directions, their mean over the "
        "video and their mean absolute change over 1 and over 4 frames. Not FVD: another network, other numbers."
    )
    features = _features_of_videos(_proxy_features, _PROXY_SIDE)
    return FrechetMetric("fvd", features, fitted_to, mobilenet_digest(), 3, "FD-video-mobilenet")


def standard(device: str = "cpu") -> FrechetMetric:
    """FVD, with StyleGAN-V's I3D."""
    from fantasytalking.evaluation.networks import i3d
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = i3d.load(device=device)

    def features(frames: Frames, begins: range, length: int) -> NDArray[np.float32]:
        return network.features(np.stack([frames[start : start + length] for start in begins]))

    fitted_to = (
        "I3D features (400, Kinetics-400, the torchscript of StyleGAN-V) of short "
        "videos of the generated and of the real clips, centre crop at the protocol's side; covariances divided by n - 1 (StyleGAN-V "
        "divides by n)."
    )
    return FrechetMetric("fvd", _features_of_videos(features, None), fitted_to, {"i3d": digest("i3d")}, 2)


def _features_of_videos(
    features: Callable[[Frames, range, int], NDArray[np.float32]], side: int | None
) -> Callable[[Footage], NDArray[np.float32]]:
    """Features of a clip's videos of `protocol.video_frames` frames, one every `protocol.video_stride` frames.

    Args:
        features: Whole clip uint8 [F, side, side, 3], indices of first frames, length -> float32 [n, d].
        side: Side of the frames that `features` takes; None takes the protocol's.
    """

    def of_clip(clip: Footage) -> NDArray[np.float32]:
        protocol = clip.protocol
        begins = starts(len(clip.frames), protocol)
        if not begins:
            raise InputError(
                f"The clip has {len(clip.frames)} frames at {protocol.fps:g} frames a second and a video of FVD has "
                f"{protocol.video_frames}; give longer clips or a smaller video_frames."
            )
        return features(centre_square(clip.frames, side or protocol.video_side), begins, protocol.video_frames)

    return of_clip


@torch.inference_mode()
def _proxy_features(frames: Frames, begins: range, length: int) -> NDArray[np.float32]:
    network, parts = mobilenet(), []
    for start in range(0, len(frames), 32):
        images = torch.from_numpy(frames[start : start + 32]).permute(0, 3, 1, 2).float() / 255
        parts.append(network(images)[-1].mean((2, 3)).numpy())
    per_frame = np.concatenate(parts)
    return motion_features(per_frame @ _projection(per_frame.shape[1]), begins, length)


def _projection(width: int) -> NDArray[np.float32]:
    """A fixed random orthonormal map [width, _PROXY_DIM]: videos are few, and a covariance of 1,000 dimensions needs many."""
    random = np.random.default_rng(0).standard_normal((width, _PROXY_DIM))
    return np.asarray(np.linalg.qr(random)[0], np.float32)
