"""Perceptual distance for training the mouth painter: MobileNetV2 features, normalised over channels as in LPIPS."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.perception.mobilenet import WEIGHTS, load

_TAPS = (1, 3, 6)  # after these blocks: 1/2, 1/4 and 1/8 of the size


class PerceptualDistance(nn.Module):
    """Distance between pictures [B, 3, H, W] in [-1, 1] -> [B].

    Args:
        path: Weights in the layout of the bundled MobileNetV2; blocks after the sixth are not used.

    Raises:
        CheckpointError: The file cannot be read or lacks a convolution.
    """

    def __init__(self, path: Path = WEIGHTS) -> None:
        super().__init__()
        self.network = load(path)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features at three depths of the network."""
        result: list[Tensor] = self.network((x + 1) / 2, _TAPS)
        return result

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance [N] of pictures [N, 3, h, w] in [-1, 1]."""
        total = torch.zeros(len(x), device=x.device)
        for a, b in zip(self.features(x), self.features(y), strict=True):
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
            total = total + (a - b).square().sum(1).mean((1, 2))
        return total
