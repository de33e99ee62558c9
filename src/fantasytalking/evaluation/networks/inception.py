"""The Inception network of FID: the TensorFlow network of 2015 as pytorch-fid and torch-fidelity ported it, not torchvision's.

It differs from torchvision's `inception_v3` in more than the weights: average pools exclude the padding from the mean, the last block
pools by maximum, and there are 1008 classes. Letters in comments: channels x side for a 299-pixel image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.evaluation.networks.metric_weights import require
from fantasytalking.evaluation.networks.network_inputs import batches, check_images, fill, read_state, to_planes

__all__ = ["KEY", "Inception", "InceptionFeatures", "Resize", "load", "resize_like_tensorflow"]

KEY = "inception"
SIDE = 299
Resize = Literal["pytorch-fid", "torch-fidelity"]


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, inside: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _in_turn(x: Tensor, *layers: nn.Module) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class BlockA(nn.Module):
    """1x1, 5x5, double 3x3 and pooled branches at 35 x 35."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(inside, 48, 1), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inside, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = Conv(64, 96, 3, padding=1), Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inside, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = _in_turn(x, self.branch5x5_1, self.branch5x5_2)
        double = _in_turn(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """To 17 x 17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64, 1), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = _in_turn(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """Factorised 7 x 7 branches of a given width."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        self.branch1x1 = Conv(inside, 192, 1)
        self.branch7x7_1 = Conv(inside, width, 1)
        self.branch7x7_2, self.branch7x7_3 = Conv(width, width, *row), Conv(width, 192, *column)
        self.branch7x7dbl_1 = Conv(inside, width, 1)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = Conv(width, width, *column), Conv(width, width, *row)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = Conv(width, width, *column), Conv(width, 192, *row)
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = _in_turn(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3)
        double = _in_turn(
            x, self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5
        )
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """To 8 x 8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(inside, 192, 1), Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inside, 192, 1)
        self.branch7x7x3_2, self.branch7x7x3_3 = (
            Conv(192, 192, (1, 7), padding=(0, 3)),
            Conv(192, 192, (7, 1), padding=(3, 0)),
        )
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = _in_turn(x, self.branch3x3_1, self.branch3x3_2)
        seven = _in_turn(x, self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """Split 3 x 3 branches; the last block of the 2015 network pools by maximum."""

    def __init__(self, inside: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = Conv(inside, 320, 1)
        self.branch3x3_1 = Conv(inside, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = (
            Conv(384, 384, (1, 3), padding=(0, 1)),
            Conv(384, 384, (3, 1), padding=(1, 0)),
        )
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 448, 1), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = _in_turn(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        pooled = F.max_pool2d(x, 3, 1, 1) if self.last else _average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class Inception(nn.Module):
    """The network of 2015; layers are named as in the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)  # 32 x 149
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)  # after a maximum over 3 x 3: 80 x 73
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)  # 288 x 35
        self.Mixed_6a = BlockB(288)  # 768 x 17
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (BlockC(768, n) for n in (128, 160, 160, 192))
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = BlockD(768), BlockE(1280, False), BlockE(2048, True)  # 2048 x 8
        self.fc = nn.Linear(2048, 1008)  # in the file, not used for FID

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, 2048] of images [N, 3, 299, 299] in [-1, 1]."""
        x = _in_turn(x, self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3)
        x = _in_turn(F.max_pool2d(x, 3, 2), self.Conv2d_3b_1x1, self.Conv2d_4a_3x3)
        x = _in_turn(F.max_pool2d(x, 3, 2), self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a)
        x = _in_turn(x, self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e)
        return _in_turn(x, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c).mean((2, 3))


class InceptionFeatures:
    """Features that FID compares.

    Args:
        network: The network, with its weights.
        resize: How images are resized to 299 x 299. ``pytorch-fid``: bilinear without antialiasing, pixel centres aligned, values / 255
            to [-1, 1]. ``torch-fidelity``: as in TensorFlow 1, top left corners aligned, (value - 128) / 128. FIDs of the two differ.
    """

    def __init__(self, network: Inception, resize: Resize = "pytorch-fid") -> None:
        self.network, self.resize = network, resize

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8], batch: int = 16, side: int = SIDE) -> NDArray[np.float32]:
        """Compute features of images.

        Args:
            images: uint8 [N, H, W, 3], RGB.
            batch: Images per pass.
            side: Side to which images are resized; 299 for every published number.

        Returns:
            float32 [N, 2048].

        Raises:
            ImageError: `images` has another type or shape.
        """
        check_images(images)
        device = self.network.fc.weight.device
        parts = []
        for some in batches(images, batch):
            planes = to_planes(some, device)
            if self.resize == "torch-fidelity":
                planes = (resize_like_tensorflow(planes, side) - 128) / 128
            else:
                planes = 2 * F.interpolate(planes / 255, (side, side), mode="bilinear", align_corners=False) - 1
            parts.append(self.network(planes).cpu().numpy())
        return np.concatenate(parts).astype(np.float32)


def resize_like_tensorflow(planes: Tensor, side: int) -> Tensor:
    """Bilinear resizing with the sampling grid of TensorFlow 1, source = target * scale (no half pixel), no antialiasing.

    Args:
        planes: [N, C, H, W].
        side: Side of the result.

    Returns:
        [N, C, side, side].
    """
    for axis in (3, 2):
        length = planes.shape[axis]
        at = torch.arange(side, dtype=torch.float32, device=planes.device) * torch.tensor(length / side)
        low = at.long()
        high, share = (low + 1).clamp_max(length - 1), at - low
        share = share.view(-1, 1) if axis == 2 else share
        first = planes.index_select(axis, low)
        planes = first + (planes.index_select(axis, high) - first) * share
    return planes


def load(
    path: Path | None = None, device: str | torch.device = "cpu", resize: Resize = "pytorch-fid"
) -> InceptionFeatures:
    """Load the network with its published weights.

    Args:
        path: Path of the file; None takes the verified one in the cache.
        device: Device to run on.
        resize: See `InceptionFeatures`.

    Raises:
        CheckpointError: The file is missing, unsafe, or differs from the listed one.
    """
    path = path or require(KEY)
    network = Inception()
    fill(network, read_state(path), path)
    return InceptionFeatures(network.to(device), resize)
