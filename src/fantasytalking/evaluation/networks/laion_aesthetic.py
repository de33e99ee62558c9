"""LAION's aesthetic predictors on image embeddings of CLIP ViT-L/14.

``linear`` is the first predictor, a linear layer; VBench uses it, divided by 10. ``improved`` is the second, five linear layers in a row
without activations (with dropout between them during training), on another scale: the two never belong in one table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from fantasytalking.errors import SettingsError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import (
    CLIP_MEAN,
    CLIP_STD,
    batches,
    check_images,
    fill,
    read_folder,
    read_state,
    to_planes,
)

__all__ = ["Aesthetic", "Head", "load"]

Variant = Literal["linear", "improved"]
_HEADS: dict[str, str] = {"linear": "aesthetic", "improved": "aesthetic-improved"}


class Head(nn.Module):
    """Embeddings [N, d] of unit length -> scores [N], about 1 to 10.

    Args:
        variant: The predictor, `linear` or `improved`.
        width: Channels of the embeddings, d; 768 as published.
    """

    def __init__(self, variant: str = "linear", width: int = 768) -> None:
        super().__init__()
        if variant not in _HEADS:
            raise SettingsError(f"There is no aesthetic predictor '{variant}'; choose from {', '.join(_HEADS)}.")
        if variant == "linear":
            self.layers: nn.Module = nn.Linear(width, 1)
        else:
            sizes = (1024, 128, 64, 16)
            first, second, third = (nn.Dropout(p) for p in (0.2, 0.2, 0.1))
            self.layers = nn.Sequential(
                nn.Linear(width, sizes[0]), first, nn.Linear(sizes[0], sizes[1]), second, nn.Linear(sizes[1], sizes[2]), third,
                nn.Linear(sizes[2], sizes[3]), nn.Linear(sizes[3], 1),
            )  # fmt: skip

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores [N] of embeddings [N, d]."""
        result: Tensor = self.layers(embeddings)[:, 0]
        return result

    @classmethod
    def read(cls, path: Path, variant: str, width: int) -> Head:
        """Read a predictor from the published file.

        Raises:
            CheckpointError: The weights do not fit.
        """
        head, state = cls(variant, width), read_state(path)
        fill(head, {f"layers.{name.removeprefix('layers.')}": value for name, value in state.items()}, path)
        return head


class Aesthetic:
    """Scores of images.

    Args:
        clip: The image side of CLIP.
        head: The predictor.
        antialias: True resizes images by Pillow's bicubic filter, as CLIP's own preparation and LAION's code do; False resizes
            without antialiasing, as VBench does.
    """

    def __init__(self, clip: CLIPVisionModelWithProjection, head: Head, antialias: bool = True) -> None:
        self.clip, self.head, self.antialias = clip.eval().requires_grad_(False), head, antialias

    @torch.inference_mode()
    def embeddings(self, images: NDArray[np.uint8], batch: int = 8) -> NDArray[np.float32]:
        """CLIP's image embeddings of unit length.

        Args:
            images: uint8 [N, H, W, 3], RGB; the shorter side resized to 224, the middle square taken.
            batch: Images per pass.

        Returns:
            float32 [N, 768].

        Raises:
            ImageError: `images` has another type or shape.
        """
        check_images(images)
        device, side = self.clip.device, int(self.clip.config.image_size)
        mean = torch.tensor(CLIP_MEAN, device=device).view(1, 3, 1, 1)
        std = torch.tensor(CLIP_STD, device=device).view(1, 3, 1, 1)
        parts = []
        for some in batches(images, batch):
            planes = self._squares(some, side, device)
            found = self.clip(pixel_values=(planes / 255 - mean) / std).image_embeds
            parts.append(F.normalize(found.float(), dim=-1).cpu().numpy())
        return np.concatenate(parts).astype(np.float32)

    @torch.inference_mode()
    def scores(self, images: NDArray[np.uint8], batch: int = 8) -> NDArray[np.float32]:
        """Scores of images, float32 [N], about 1 to 10; the paper and VBench divide by 10. Arguments and errors as in `embeddings`."""
        device = next(self.head.parameters()).device
        embeddings = torch.from_numpy(self.embeddings(images, batch)).to(device)
        return np.asarray(self.head(embeddings).cpu().numpy(), np.float32)

    def _squares(self, images: NDArray[np.uint8], side: int, device: torch.device) -> Tensor:
        height, width = images.shape[1:3]
        short = min(height, width)
        size = (side, int(side * width / short)) if height <= width else (int(side * height / short), side)
        if (height, width) == size:
            planes = to_planes(images, device)
        elif self.antialias:
            resized = [Image.fromarray(x).resize((size[1], size[0]), Image.Resampling.BICUBIC) for x in images]
            planes = to_planes(np.stack([np.asarray(x) for x in resized]), device)
        else:
            planes = (
                F.interpolate(to_planes(images, device), size, mode="bicubic", align_corners=False)
                .clamp(0, 255)
                .round()
            )
        top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
        return planes[..., top : top + side, left : left + side]


def load(
    clip: Path | None = None,
    head: Path | None = None,
    device: str | torch.device = "cpu",
    variant: Variant = "linear",
    antialias: bool = True,
) -> Aesthetic:
    """Load a predictor with its published weights.

    Args:
        clip: Folder of CLIP's repository; None takes the verified one in the cache.
        head: File of the predictor; None takes the verified one in the cache.
        device: Device to run on.
        variant: The predictor, `linear` or `improved`.
        antialias: See `Aesthetic`.

    Raises:
        SettingsError: There is no such variant.
        CheckpointError: A file is missing, unsafe, or differs from the listed one.
    """
    if variant not in _HEADS:
        raise SettingsError(f"There is no aesthetic predictor '{variant}'; choose from {', '.join(_HEADS)}.")
    clip, head = clip or require("clip"), head or require(_HEADS[variant])
    network = read_folder(CLIPVisionModelWithProjection, clip, "CLIP")
    predictor = Head.read(head, variant, int(network.config.projection_dim))
    return Aesthetic(network.to(device), predictor.to(device), antialias)
