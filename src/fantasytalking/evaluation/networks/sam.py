"""SAM ViT-B (Kirillov et al. 2023): the mask of the person.

The paper separates foreground and background with SAM and does not say how it is prompted. **[ours]**: a box around the person, derived
from that of the face, and a point in the middle of the face; one mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import SamModel

from fantasytalking.errors import InputError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_images,
    read_folder,
    to_planes,
)

__all__ = ["KEY", "Sam", "load", "person_box"]

KEY = "sam"
Box = tuple[float, float, float, float]
# Shoulders are about three heads wide; the mesh ends below the hair.
_SIDEWAYS, _UP = 1.5, 0.7


def person_box(face: Box, width: int, height: int) -> Box:
    """Box around a person, from that of the face: 4 face widths wide, from above the hair to the lower edge of the image."""
    x0, y0, x1, y1 = face
    wide, high = x1 - x0, y1 - y0
    return (
        max(0.0, x0 - _SIDEWAYS * wide),
        max(0.0, y0 - _UP * high),
        min(float(width - 1), x1 + _SIDEWAYS * wide),
        float(height - 1),
    )


class Sam:
    """Masks of images.

    Args:
        network: SAM of any size.
    """

    def __init__(self, network: SamModel) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def masks(self, frames: NDArray[np.uint8], faces: Sequence[Box], stride: int = 1) -> NDArray[np.bool_]:
        """Segment the person in each frame.

        Args:
            frames: uint8 [F, H, W, 3], RGB.
            faces: Bounds x0, y0, x1, y1 of the face in each frame, in pixels.
            stride: Segment only every n-th frame (a second or more each on a CPU); the following frames take its mask.

        Returns:
            bool [F, H, W].

        Raises:
            ImageError: `frames` has another type or shape.
            InputError: There is not one box per frame.
        """
        check_images(frames, "frames", "F, H, W, 3")
        if len(faces) != len(frames) or stride < 1:
            raise InputError(
                f"SAM needs a face box for each of {len(frames)} frames and a stride of 1 or more, not {len(faces)}, {stride}."
            )
        found = [self._mask(frames[i], faces[i]) for i in range(0, len(frames), stride)]
        return np.stack([found[i // stride] for i in range(len(frames))])

    def _mask(self, frame: NDArray[np.uint8], face: Box) -> NDArray[np.bool_]:
        height, width = frame.shape[:2]
        planes, size = self._planes(frame)
        scale = np.array([size[1] / width, size[0] / height])
        box = torch.tensor(
            (np.array(person_box(face, width, height)).reshape(2, 2) * scale).ravel(), dtype=torch.float32
        )
        point = torch.tensor(np.array([(face[0] + face[2]) / 2, (face[1] + face[3]) / 2]) * scale, dtype=torch.float32)
        device = self.network.device
        found = self.network(
            pixel_values=planes,
            input_boxes=box.view(1, 1, 4).to(device),
            input_points=point.view(1, 1, 1, 2).to(device),
            input_labels=torch.ones(1, 1, 1, dtype=torch.int64, device=device),
            multimask_output=False,
        ).pred_masks[:, 0]
        side = int(self.network.config.vision_config.image_size)
        whole = F.interpolate(found.float(), (side, side), mode="bilinear", align_corners=False)[
            ..., : size[0], : size[1]
        ]
        logits = F.interpolate(whole, (height, width), mode="bilinear", align_corners=False)
        return np.asarray((logits[0, 0] > 0).cpu().numpy())

    def _planes(self, frame: NDArray[np.uint8]) -> tuple[Tensor, tuple[int, int]]:
        """The image as SAM takes it, longest side 1024, padded below and to the right, and its size before padding."""
        side = int(self.network.config.vision_config.image_size)
        scale = side / max(frame.shape[:2])
        size = int(frame.shape[0] * scale + 0.5), int(frame.shape[1] * scale + 0.5)
        small = np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        device = self.network.device
        mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
        planes = (to_planes(small[None], device) / 255 - mean) / std
        return F.pad(planes, (0, side - size[1], 0, side - size[0])), size


def load(path: Path | None = None, device: str | torch.device = "cpu") -> Sam:
    """Load SAM with its published weights.

    Args:
        path: Folder of the repository; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        CheckpointError: The folder is missing, incomplete, or differs from the listed one.
    """
    network = read_folder(SamModel, path or require(KEY), "SAM")
    return Sam(network.to(device))
