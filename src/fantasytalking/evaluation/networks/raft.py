"""RAFT large (Teed and Deng 2020), torchvision's network and weights C_T_SKHT_V2: optical flow between neighbouring frames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fantasytalking.errors import InputError, MissingDependencyError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import check_images, fill, read_state, to_planes

__all__ = ["KEY", "Raft", "build", "load"]

KEY = "raft"
UPDATES = 12
_MULTIPLE, _SMALLEST = 8, 128


class Raft:
    """Optical flow of clips.

    Args:
        network: Called with two images [1, 3, H, W] in [-1, 1]; returns a list of flows, of which the last is the best.
        device: Device of the network.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        self.network, self.device = network, device

    @torch.inference_mode()
    def flows(self, frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """Optical flow from each frame to the next.

        Sides are padded to multiples of 8, and to at least 128, by repeating the edge; the padding is cut off the flow.

        Args:
            frames: uint8 [F, H, W, 3], RGB.

        Yields:
            F - 1 times float32 [H, W, 2]: pixels to the right and down.

        Raises:
            ImageError: `frames` has another type or shape.
            InputError: Fewer than two frames.
        """
        check_images(frames, "frames", "F, H, W, 3")
        if len(frames) < 2:
            raise InputError("Optical flow needs two frames or more, not 1.")
        height, width = frames.shape[1:3]
        tall, wide = (max(_SMALLEST, -(-n // _MULTIPLE) * _MULTIPLE) for n in (height, width))
        left, top = (wide - width) // 2, (tall - height) // 2
        edges = (left, wide - width - left, top, tall - height - top)
        before = None
        for i in range(len(frames)):
            after = F.pad(to_planes(frames[i : i + 1], self.device) / 127.5 - 1, edges, mode="replicate")
            if before is not None:
                flow = self.network(before, after, num_flow_updates=UPDATES)[-1][0]
                flow = flow[:, top : top + height, left : left + width]
                yield np.asarray(flow.permute(1, 2, 0).float().cpu().numpy(), np.float32)
            before = after


def build() -> Any:
    """Make torchvision's network, without weights.

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    try:
        # By name: a requirement of torchvision would let pip change the installed torch.
        models = importlib.import_module("torchvision.models.optical_flow")
    except ImportError as error:
        raise MissingDependencyError(
            f"RAFT (SD and BD) needs the package torchvision, which cannot be imported ({error}); install the one that fits your "
            f"torch {torch.__version__}, for instance with: pip install torchvision, or leave SD and BD out."
        ) from error
    return models.raft_large(weights=None, progress=False)


def load(path: Path | None = None, device: str | torch.device = "cpu") -> Raft:
    """Load RAFT with its published weights.

    Args:
        path: Path of the file; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        MissingDependencyError: torchvision is not installed.
        CheckpointError: The file is missing, unsafe, or differs from the listed one.
    """
    network = build()
    path = path or require(KEY)
    fill(network, read_state(path), path)
    return Raft(network.to(device), torch.device(device))
