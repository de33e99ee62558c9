"""I3D as StyleGAN-V packed it: the torchscript from which nearly all FVDs of generated video come.

It is a program, not only weights: it runs only after its SHA-256 was compared, and TorchScript can access neither files nor network.
VideoGPT's I3D (also that of cd-fvd) is another conversion with other numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.errors import CheckpointError, ImageError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import batches, check_images

__all__ = ["I3D", "KEY", "load"]

KEY = "i3d"
SIDE = 224
MIN_FRAMES = 10
"""Fewer frames leave no time axis after its pools."""


class I3D:
    """Features of clips.

    Args:
        script: The torchscript, called with clips [N, 3, T, H, W] and rescale, resize, return_features.
        device: Device of the script.
    """

    def __init__(self, script: Any, device: torch.device) -> None:
        self.script, self.device = script, device

    @torch.inference_mode()
    def features(self, clips: NDArray[np.uint8], batch: int = 4) -> NDArray[np.float32]:
        """Features of clips.

        Values are scaled to [-1, 1] here and the script is called with rescale=False, as most users do. The script resizes frames of a
        size other than 224 (bilinear, aspect ratio ignored).

        Args:
            clips: uint8 [N, T, H, W, 3], RGB, T of at least 10.
            batch: Clips per pass.

        Returns:
            float32 [N, 400].

        Raises:
            ImageError: `clips` has another type or shape, or fewer frames.
        """
        check_images(clips, "clips", "N, T, H, W, 3")
        if clips.shape[1] < MIN_FRAMES:
            raise ImageError(f"I3D takes clips of at least {MIN_FRAMES} frames, not {clips.shape[1]}.")
        resize = clips.shape[2:4] != (SIDE, SIDE)
        parts = []
        for some in batches(clips, batch):
            video = torch.from_numpy(some.copy()).to(self.device).permute(0, 4, 1, 2, 3).float() * (2 / 255) - 1
            found = self.script(video.contiguous(), rescale=False, resize=resize, return_features=True)
            parts.append(found.float().cpu().numpy())
        return np.concatenate(parts).astype(np.float32)


def load(path: Path | None = None, device: str | torch.device = "cpu") -> I3D:
    """Load the published torchscript.

    Args:
        path: Path of the file; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        CheckpointError: The file is missing or not a torchscript.
    """
    path = path or require(KEY)
    try:
        script = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a torchscript ({error}); delete it and fetch it again."
        ) from error
    return I3D(script, torch.device(device))
