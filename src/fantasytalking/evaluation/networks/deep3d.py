"""Deep3DFaceRecon (Deng et al. 2019, the PyTorch version of its authors): 257 coefficients of a face, 64 of them its expression.

Only the regressor is needed, a ResNet-50 with seven linear heads, and not the Basel Face Model that turns coefficients into a shape.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.errors import InputError
from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import batches, check_images, fill, read_state, to_planes
from fantasytalking.perception.mesh_points import LEFT_EYE, MOUTH_CORNER_LEFT, MOUTH_CORNER_RIGHT, NOSE_TIP, RIGHT_EYE

__all__ = ["EXPRESSION", "KEY", "Deep3D", "Regressor", "align", "five_points", "load"]

KEY = "deep3d"
EXPRESSION = slice(80, 144)
SIDE, _SCALE = 224, 102.0
# identity, expression, texture, angles, lighting, shift in the plane, depth
_HEADS = (80, 64, 80, 3, 27, 2, 1)
# Eyes, nose tip and mouth corners of the model's mean face, y up (file similarity_Lm3D_all.mat of the original).
STANDARD = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.0032535, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.2484662, -0.38128236, 0.22235769],
    ]
)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with the stride in the middle; names as in torchvision."""

    def __init__(self, inside: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(self.conv1(x)))
        inside = F.relu(self.bn2(self.conv2(inside)))
        return F.relu(self.bn3(self.conv3(inside)) + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Features [N, 2048, 1, 1] of images [N, 3, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = self._layer(64, 64, 3, 1), self._layer(256, 128, 4, 2)
        self.layer3, self.layer4 = self._layer(512, 256, 6, 2), self._layer(1024, 512, 3, 2)

    @staticmethod
    def _layer(inside: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            Bottleneck(inside, width, stride), *(Bottleneck(4 * width, width) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        result: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3), keepdim=True)
        return result


class Regressor(nn.Module):
    """Coefficients [N, 257] of aligned images [N, 3, 224, 224] in [0, 1]; names as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet50()
        self.final_layers = nn.ModuleList([nn.Conv2d(2048, size, 1) for size in _HEADS])

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients [N, 257] of aligned images [N, 3, 224, 224]."""
        features = self.backbone(x)
        return torch.cat([head(features) for head in self.final_layers], 1).flatten(1)


class Deep3D:
    """Coefficients of faces.

    Args:
        network: The regressor, with its weights.
    """

    def __init__(self, network: Regressor) -> None:
        self.network = network

    @torch.inference_mode()
    def coefficients(self, aligned: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float32]:
        """All coefficients of aligned faces.

        Args:
            aligned: uint8 [N, 224, 224, 3], RGB, see `align`.
            batch: Images per pass.

        Returns:
            float32 [N, 257]: identity 80, expression 64, texture 80, angles 3, lighting 27, shift 2, depth 1.

        Raises:
            ImageError: `aligned` has another type or shape.
        """
        check_images(aligned, "aligned faces")
        device = next(self.network.parameters()).device
        parts = [self.network(to_planes(some, device) / 255).cpu().numpy() for some in batches(aligned, batch)]
        return np.concatenate(parts).astype(np.float32)

    def expressions(self, frames: NDArray[np.uint8], meshes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Expression of the face in each frame.

        Args:
            frames: uint8 [F, H, W, 3], RGB.
            meshes: Face meshes of this project, in pixels [F, 468, 2 or 3].

        Returns:
            float32 [F, 64].

        Raises:
            ImageError: `frames` has another type or shape.
            InputError: There is not one mesh per frame.
        """
        check_images(frames, "frames", "F, H, W, 3")
        if len(frames) != len(meshes):
            raise InputError(f"Each of the {len(frames)} frames needs a face mesh; {len(meshes)} were given.")
        points = five_points(meshes)
        aligned = np.stack([align(frame, five) for frame, five in zip(frames, points, strict=True)])
        return self.coefficients(aligned)[:, EXPRESSION]


def five_points(meshes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Eyes, nose tip and mouth corners, those on the left of the image first: [F, 468, 2 or 3] -> [F, 5, 2], pixels, y down."""
    points = np.asarray(meshes, np.float64)[..., :2]
    eyes = [points[:, list(indices)].mean(1) for indices in (RIGHT_EYE, LEFT_EYE)]
    return np.stack([*eyes, points[:, NOSE_TIP], points[:, MOUTH_CORNER_RIGHT], points[:, MOUTH_CORNER_LEFT]], 1)


def align(
    frame: NDArray[np.uint8], points: NDArray[np.floating], standard: NDArray[np.floating] = STANDARD
) -> NDArray[np.uint8]:
    """Crop as the original does: scaled and shifted, not rotated, so that the five points fit the mean face; black outside the image.

    The affine map from the standard points to the image, x = R1 p + t1 and y = R2 p + t2, is fitted by least squares; the scale is
    102 / mean(|R1|, |R2|).

    Args:
        frame: uint8 [H, W, 3], RGB.
        points: The five points in pixels, y down, [5, 2].
        standard: The same points of the mean face, [5, 3].

    Returns:
        uint8 [224, 224, 3].
    """
    height, width = frame.shape[:2]
    target = np.stack([points[:, 0], height - 1 - points[:, 1]], 1)
    design = np.concatenate([standard, np.ones((5, 1))], 1)
    fitted = np.linalg.lstsq(design, target, rcond=None)[0]  # [4, 2]
    scale = _SCALE / (np.linalg.norm(fitted[:3], axis=0).mean())
    wide, tall = int(width * scale), int(height * scale)
    left = int(wide / 2 - SIDE / 2 + (fitted[3, 0] - width / 2) * scale)
    top = int(tall / 2 - SIDE / 2 + (height / 2 - fitted[3, 1]) * scale)
    resized = Image.fromarray(frame).resize((wide, tall), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


def load(path: Path | None = None, device: str | torch.device = "cpu") -> Deep3D:
    """Load the regressor with its published weights.

    Args:
        path: Path of the authors' `epoch_20.pth`; None takes the verified one in the cache.
        device: Device to run on.

    Raises:
        CheckpointError: The file is missing, unsafe, or differs from the listed one.
    """
    path = path or require(KEY)
    network = Regressor()
    fill(network, read_state(path, "net_recon"), path)
    return Deep3D(network.to(device))
