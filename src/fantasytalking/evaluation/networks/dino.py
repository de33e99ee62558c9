"""DINO ViT-B/16 (Caron et al. 2021): one vector per image, the class token after the last norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import ViTModel

from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    batches,
    check_images,
    read_folder,
    to_planes,
)

__all__ = ["KEY", "Dino", "load"]

KEY = "dino"


class Dino:
    """Features of images.

    Args:
        network: A ViT without pooling layer.
    """

    def __init__(self, network: ViTModel) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8], batch: int = 8) -> NDArray[np.float32]:
        """Class tokens of images.

        Args:
            images: uint8 [N, H, W, 3], RGB; resized to the network's square (224) by an antialiased bicubic filter where needed.
            batch: Images per pass.

        Returns:
            float32 [N, 768], not normalised.

        Raises:
            ImageError: `images` has another type or shape.
        """
        check_images(images)
        device, side = self.network.device, int(self.network.config.image_size)
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
        parts = []
        for some in batches(images, batch):
            planes = to_planes(some, device) / 255
            if planes.shape[-2:] != (side, side):
                planes = F.interpolate(planes, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
            parts.append(self.network(pixel_values=(planes - mean) / std).last_hidden_state[:, 0].cpu().numpy())
        return np.concatenate(parts).astype(np.float32)


def load(path: Path | None = None, device: str | torch.device = "cpu") -> Dino:
    """Load DINO with its published weights.

    Args:
        path: Folder of the repository; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        CheckpointError: The folder is missing, incomplete, or differs from the listed one.
    """
    network = read_folder(ViTModel, path or require(KEY), "a ViT", add_pooling_layer=False)
    return Dino(network.to(device))
