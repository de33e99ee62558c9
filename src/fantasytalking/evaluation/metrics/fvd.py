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
from fantasytalking.evaluation.metrics.metric import Measurement, Metric
from fantasytalking.evaluation.metrics.proxies import mobilenet, mobilenet_digest
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Column

__all__ = ["VideoFrechet", "centre_square", "motion_features", "proxy", "standard", "starts"]

_PROXY_SIDE = 128
_PROXY_DIM = 48
_LAGS = (1, 4)
_CHANGE_WEIGHT = 4.0
"""Brings changes between frames, which are small, to the spread of the features themselves."""


def starts(frames: int, protocol: Protocol) -> range:
    """First frames of the videos of a clip."""
    return range(0, frames - protocol.video_frames + 1, protocol.video_stride)


def centre_square(frames: Frames, side: int) -> Frames:
    """The centre square of frames [F, H, W, 3], area- or cubic-resized to `side`: [F, side, side, 3]."""
    height, width = frames.shape[1:3]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    filter = cv2.INTER_AREA if edge >= side else cv2.INTER_CUBIC
    crops = (frame[top : top + edge, left : left + edge] for frame in frames)
    return np.stack([np.asarray(cv2.resize(crop, (side, side), interpolation=filter), np.uint8) for crop in crops])


class VideoFrechet(Metric):
    """Features of videos of `protocol.video_frames` frames, every `protocol.video_stride` frames.

    Args:
        features: whole clip uint8 [F, side, side, 3], first frames, length -> float32 [n, d].
        side: that the features want; None: the protocol's.
        column: what it fills.
    """

    name = "fvd"

    def __init__(
        self, features: Callable[[Frames, range, int], NDArray[np.float32]], side: int | None, column: Column
    ) -> None:
        self.features, self.side, self.columns = features, side, (column,)

    def measure(self, made: Footage, true: Footage) -> Measurement:
        """Features of the clip's videos; the distance is taken over all clips.

        Raises:
            InputError: the clip is shorter than one video.
        """
        protocol = made.protocol
        begins = starts(len(made.frames), protocol)
        if not begins:
            raise InputError(
                f"The clip has {len(made.frames)} frames at {protocol.fps:g} frames a second and a video of FVD has "
                f"{protocol.video_frames}; give longer clips or a smaller video_frames."
            )
        frames = centre_square(made.frames, self.side or protocol.video_side)
        return Measurement(features={self.columns[0].key: self.features(frames, begins, protocol.video_frames)})


def motion_features(per_frame: NDArray[np.float32], begins: range, length: int) -> NDArray[np.float32]:
    """What a video looks like and how it moves, from features of its frames.

    Args:
        per_frame: [F, d].
        begins: first frames of the videos.
        length: frames of a video.

    Returns:
        [n, 3 d]: mean over the video, mean absolute change over 1 frame and over 4, both times a constant.
    """
    parts = []
    for start in begins:
        video = per_frame[start : start + length]
        changes = [np.abs(video[lag:] - video[:-lag]).mean(0) for lag in _LAGS if lag < len(video)]
        parts.append(np.concatenate([video.mean(0), *(_CHANGE_WEIGHT * change for change in changes)]))
    return np.stack(parts).astype(np.float32)


def _projection(width: int) -> NDArray[np.float32]:
    """A fixed random orthonormal map [width, _PROXY_DIM]: videos are few, and a covariance of 1,000 dimensions needs many."""
    random = np.random.default_rng(0).standard_normal((width, _PROXY_DIM))
    return np.asarray(np.linalg.qr(random)[0], np.float32)


@torch.inference_mode()
def _proxy_features(frames: Frames, begins: range, length: int) -> NDArray[np.float32]:
    network, parts = mobilenet(), []
    for start in range(0, len(frames), 32):
        pictures = torch.from_numpy(frames[start : start + 32]).permute(0, 3, 1, 2).float() / 255
        parts.append(network(pictures)[-1].mean((2, 3)).numpy())
    per_frame = np.concatenate(parts)
    return motion_features(per_frame @ _projection(per_frame.shape[1]), begins, length)


def proxy(device: str = "cpu") -> VideoFrechet:
    """With the bundled MobileNetV2."""
    definition = (
        "Squared Frechet distance between Gaussians fitted to features of short videos of the generated and of the real clips: MobileNetV2 "
        f"features of each frame at {_PROXY_SIDE} x {_PROXY_SIDE}, projected on {_PROXY_DIM} fixed random directions, their mean over the "
        "video and their mean absolute change over 1 and over 4 frames. Not FVD: another network, other numbers."
    )
    column = Column("fvd", "FD-video-mobilenet", "FVD", True, "lower", "", 3, "frechet", definition, mobilenet_digest())
    return VideoFrechet(_proxy_features, _PROXY_SIDE, column)


def standard(device: str = "cpu") -> VideoFrechet:
    """With StyleGAN-V's I3D."""
    from fantasytalking.evaluation.networks import i3d
    from fantasytalking.evaluation.networks.metric_weights import digest

    network = i3d.load(device=device)

    def features(frames: Frames, begins: range, length: int) -> NDArray[np.float32]:
        return network.features(np.stack([frames[start : start + length] for start in begins]))

    definition = (
        "Squared Frechet distance between Gaussians fitted to I3D features (400, Kinetics-400, the torchscript of StyleGAN-V) of short "
        "videos of the generated and of the real clips, centre crop at the protocol's side; covariances divided by n - 1 (StyleGAN-V "
        "divides by n)."
    )
    column = Column("fvd", "FVD", "FVD", False, "lower", "", 2, "frechet", definition, {"i3d": digest("i3d")})
    return VideoFrechet(features, None, column)
