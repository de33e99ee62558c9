"""The mouth painter, for what a warp of the photo cannot show: teeth, tongue, the inside of the mouth, lips that were hidden.

A small U-Net on a crop around the mouth, aligned to the mesh, of `CROP` x `CROP` pixels. It sees the warped portrait, the untouched
portrait and the drawn mouth shape, and returns new pixels and how much of them to use. Outside the mouth region the mask is zero
by construction, so cheeks, nose and chin stay the photo's.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fantasytalking.perception.mesh_points import (
    LEFT_EYE_INNER,
    LEFT_EYE_OUTER,
    LIPS_INNER,
    LIPS_OUTER,
    MOUTH_CORNER_LEFT,
    MOUTH_CORNER_RIGHT,
    RIGHT_EYE_INNER,
    RIGHT_EYE_OUTER,
)

CROP = 128
CROP_WIDTH = 1.9  # side of the crop in units of the eye distance; a wide open mouth fits
INPUT_CHANNELS = 10  # warped RGB, portrait RGB, inner mouth, lips, portrait's inner mouth, region
_RIGHT_EYE = [RIGHT_EYE_OUTER, RIGHT_EYE_INNER]
_LEFT_EYE = [LEFT_EYE_OUTER, LEFT_EYE_INNER]
_MOUTH = [MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT]


def crop_transform(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """Similarity [2, 3] from image pixels to the mouth crop of a mesh [468, 2 or 3].

    Centre and angle follow the mouth, the size follows the distance between the eyes, so that opening the mouth does not zoom.
    """
    right, left = mesh[_RIGHT_EYE, :2].mean(0), mesh[_LEFT_EYE, :2].mean(0)
    across = left - right
    distance = max(float(np.hypot(*across)), 1e-3)
    cosine, sine = across / distance
    scale = CROP / (CROP_WIDTH * distance)
    matrix = scale * np.array([[cosine, sine], [-sine, cosine]], np.float32)
    centre = mesh[_MOUTH, :2].mean(0) + 0.12 * distance * np.array([-sine, cosine], np.float32)
    shift = CROP / 2 - matrix @ centre
    return np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)


def take_crop(image: NDArray[np.uint8], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cut the mouth crop [CROP, CROP, 3] out of an image; areas are averaged where the crop is smaller than its source."""
    scale = float(np.hypot(transform[0, 0], transform[0, 1]))
    if scale < 0.6:  # blur first: warpAffine alone would alias
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / scale)
    result: NDArray[np.uint8] = cv2.warpAffine(
        image, transform, (CROP, CROP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return result


def draw_masks(mesh: NDArray[np.float32], transform: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw inner mouth, lips (outer minus inner) and mouth region of a mesh in its crop: [3, CROP, CROP] uint8, 0 to 255."""
    points = mesh[:, :2] @ transform[:, :2].T + transform[:, 2]

    def fill(indices: list[int] | tuple[int, ...]) -> NDArray[np.uint8]:
        canvas = np.zeros((CROP, CROP), np.uint8)
        cv2.fillPoly(canvas, [np.round(points[list(indices)] * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return canvas

    inner, outer = fill(tuple(LIPS_INNER)), fill(tuple(LIPS_OUTER))
    region = cv2.GaussianBlur(cv2.dilate(outer, np.ones((9, 9), np.uint8)), (0, 0), 3.0)
    return np.stack([inner, np.maximum(outer, inner) - inner, region])


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
    """U-Net: crop [B, 10, 128, 128] in [-1, 1] (masks in 0..1) -> painted crop [B, 3, 128, 128] and mask [B, 1, 128, 128].

    The first layer folds 2 x 2 pixels into channels: three quarters of the cost of a full-resolution layer saved, nothing lost.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        self.enter = nn.Conv2d(INPUT_CHANNELS * 4, widths[0], 3, 1, 1)
        self.down = nn.ModuleList(_Block(a, b, 2) for a, b in itertools.pairwise(widths))
        self.encode = nn.ModuleList(_Block(w, w) for w in widths)
        self.middle = nn.Sequential(_Block(widths[-1], widths[-1]), _Block(widths[-1], widths[-1]))
        self.decode = nn.ModuleList(_Block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.leave = nn.Conv2d(widths[0], 16, 3, 1, 1)
        nn.init.zeros_(self.leave.weight)
        with torch.no_grad():
            assert self.leave.bias is not None
            self.leave.bias.zero_()
            self.leave.bias[12:] = -1.0  # begin by showing the warp as it is

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Paint crops; x [B, 10, 128, 128] as `painter_input` stacks it, see the class for the results."""
        h = self.enter(F.pixel_unshuffle(x, 2))
        skips = []
        for i, block in enumerate(self.encode):
            h = block(h if i == 0 else self.down[i - 1](h))
            skips.append(h)
        h = self.middle(h)
        for block, skip in zip(self.decode, skips[-2::-1], strict=True):
            h = block(torch.cat([skip, F.interpolate(h, scale_factor=2.0, mode="nearest")], 1))
        out = F.pixel_shuffle(self.leave(F.silu(h)), 2)
        warped, region = x[:, :3], x[:, 9:10]
        paint = (warped + out[:, :3]).clamp(-1, 1)
        return paint, torch.sigmoid(out[:, 3:]) * region


def painter_input(
    warped: NDArray[np.uint8], portrait: NDArray[np.uint8], masks: NDArray[np.uint8], portrait_inner: NDArray[np.uint8]
) -> Tensor:
    """Stack crops [N, 128, 128, 3], masks [N, 3, 128, 128] and the portrait's inner mouth [N, 128, 128] to [N, 10, 128, 128]."""
    pictures = [torch.from_numpy(p).permute(0, 3, 1, 2).float() / 127.5 - 1 for p in (warped, portrait)]
    drawn = torch.from_numpy(masks).float() / 255
    inner = torch.from_numpy(portrait_inner).float()[:, None] / 255
    return torch.cat([*pictures, drawn[:, :2], inner, drawn[:, 2:]], 1)
