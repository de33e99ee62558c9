"""The mouth painter, for what a warp of the photo cannot show: teeth, tongue, the inside of the mouth, lips that were hidden.

A small U-Net on a window around the mouth, aligned to the mesh (`mouth_crops`). It sees the warped portrait, the untouched
portrait and the drawn mouth shape, and returns new pixels and how much of them to use. Outside the mouth region the mask is zero
by construction, so cheeks, nose and chin stay the photo's.

Letters: S side of the crop in pixels, 256 or, in models of the first version, 128; h and w sides of the window that is painted.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.autoencoder.mouth_crops import CROP
from fantasytalking.system.execution_device import execution_device

FOLDED = 64  # side of the crop after its pixels are folded into channels: the network's own resolution
INPUT_CHANNELS = 10  # warped RGB, portrait RGB, inner mouth, lips, portrait's inner mouth, region
PICTURES, REGION = 6, 9  # number of channels that are colours, in [-1, 1]; channel of the region


class _Block(nn.Module):
    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width_in)
        self.first = nn.Conv2d(width_in, width_out, 3, stride, 1)
        self.second = nn.Conv2d(width_out, width_out, 3, 1, 1)
        self.skip = nn.Conv2d(width_in, width_out, 1, stride) if width_in != width_out or stride > 1 else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.skip(x) + self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return result


class MouthPainter(nn.Module):
    """U-Net: window [B, 10, h, w] in [-1, 1] (masks in 0..1) -> painted window [B, 3, h, w] and mask [B, 1, h, w].

    The first layer folds blocks of pixels into channels: most of the cost of full-resolution layers is saved, and nothing is lost.

    Args:
        widths: Channels of the levels.
        crop: S, a multiple of 64.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96), crop: int = CROP) -> None:
        super().__init__()
        self.widths, self.crop, self.fold = widths, crop, crop // FOLDED
        block = self.fold**2
        self.enter = nn.Conv2d(INPUT_CHANNELS * block, widths[0], 3, 1, 1)
        self.down = nn.ModuleList(_Block(a, b, 2) for a, b in itertools.pairwise(widths))
        self.encode = nn.ModuleList(_Block(w, w) for w in widths)
        self.middle = nn.Sequential(_Block(widths[-1], widths[-1]), _Block(widths[-1], widths[-1]))
        self.decode = nn.ModuleList(_Block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.leave = nn.Conv2d(widths[0], 4 * block, 3, 1, 1)
        nn.init.zeros_(self.leave.weight)
        with torch.no_grad():
            assert self.leave.bias is not None
            self.leave.bias.zero_()
            self.leave.bias[3 * block :] = -1.0  # begin by showing the warp as it is

    def forward(self, x: Tensor, folded: bool = False) -> tuple[Tensor, Tensor]:
        """Paint windows.

        Args:
            x: [B, 10, h, w] as `painter_input` stacks it, h and w multiples of S / 8.
            folded: Whether x and the results have blocks of pixels folded into channels already.

        Returns:
            See the class.
        """
        if folded:
            return self._paint(x)
        paint, opacity = self._paint(F.pixel_unshuffle(x, self.fold))
        return F.pixel_shuffle(paint, self.fold), F.pixel_shuffle(opacity, self.fold)

    @torch.no_grad()
    def paint(self, stacked: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Paint windows as bytes, which is what `forward` does without its detours through floating point pictures.

        Args:
            stacked: [B, h, w, 10] as `stack_input` makes it.

        Returns:
            New pixels [B, h, w, 3], and how much of them to use [B, h, w], 0 to 1.
        """
        batch, height, width, _ = stacked.shape
        fold, weight = self.fold, next(self.parameters())
        rows, columns = height // fold, width // fold
        blocks = stacked.reshape(batch, rows, fold, columns, fold, INPUT_CHANNELS).transpose(0, 1, 3, 5, 2, 4)
        x = torch.from_numpy(np.ascontiguousarray(blocks)).to(execution_device(self), weight.dtype)
        x[:, :, :, :PICTURES].mul_(1 / 127.5).sub_(1)
        x[:, :, :, PICTURES:].mul_(1 / 255)
        # channels last in memory, which convolutions on a CPU are a seventh faster with
        # Not `_paint`: hooks that bring the weights are on `forward`.
        paint, opacity = self(x.reshape(batch, rows, columns, -1).permute(0, 3, 1, 2), folded=True)
        levels = paint.add(1).mul_(127.5).round_().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        pixels = levels.reshape(batch, rows, columns, 3, fold, fold).transpose(0, 1, 4, 2, 5, 3)
        shares = opacity.float().permute(0, 2, 3, 1).cpu().numpy().reshape(batch, rows, columns, fold, fold)
        return pixels.reshape(batch, height, width, 3), shares.transpose(0, 1, 3, 2, 4).reshape(batch, height, width)

    def _paint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Paint folded windows [B, 10 block, h / fold, w / fold]: folded pixels and opacities."""
        h = self.enter(x)
        skips = []
        for i, block in enumerate(self.encode):
            h = block(h if i == 0 else self.down[i - 1](h))
            skips.append(h)
        h = self.middle(h)
        for block, skip in zip(self.decode, skips[-2::-1], strict=True):
            h = block(torch.cat([skip, F.interpolate(h, scale_factor=2.0, mode="nearest")], 1))
        out = self.leave(F.silu(h))
        area = self.fold**2
        warped, region = x[:, : 3 * area], x[:, REGION * area :]
        return (warped + out[:, : 3 * area]).clamp(-1, 1), torch.sigmoid(out[:, 3 * area :]) * region


def stack_input(
    warped: NDArray[np.uint8], portrait: NDArray[np.uint8], masks: NDArray[np.uint8], own_inner: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Stack windows [N, h, w, 3], masks [N, 3, h, w] of `draw_lips` and the portrait's inner mouth [N, h, w] to [N, h, w, 10]."""
    inner, lips, region = masks.swapaxes(0, 1)[..., None]
    return np.concatenate([warped, portrait, inner, lips, own_inner[..., None], region], -1)


def painter_input(stacked: NDArray[np.uint8]) -> Tensor:
    """Convert [N, h, w, 10] of `stack_input` to the network's input [N, 10, h, w], colours in [-1, 1] and masks in 0..1."""
    # contiguous: with channels last in memory the backward pass of this network aborts in torch 2.13
    x = torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))).float()
    return torch.cat([x[:, :PICTURES] / 127.5 - 1, x[:, PICTURES:] / 255], 1)
