"""The mouth painter, for what a warp of the photo cannot show: teeth, tongue, the inside of the mouth, lips that were hidden.

A small U-Net on a square crop around the mouth, aligned to the mesh. It sees the warped portrait, the untouched
portrait and the drawn mouth shape, and returns new pixels and how much of them to use. Outside the mouth region the mask is zero
by construction, so cheeks, nose and chin stay the photo's.

Letters: S side of the crop in pixels, 256 or, in models of the first version, 128.
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

CROP = 256  # S of new painters
FOLDED = 64  # side of the crop after its pixels are folded into channels: the network's own resolution
CROP_WIDTH = 1.5  # side of the crop in units of the eye distance; a wide open mouth fits
FIRST_CROP, FIRST_CROP_WIDTH = 128, 1.9  # the same of models of the first version
INPUT_CHANNELS = 10  # warped RGB, portrait RGB, inner mouth, lips, portrait's inner mouth, region
_RIGHT_EYE = [RIGHT_EYE_OUTER, RIGHT_EYE_INNER]
_LEFT_EYE = [LEFT_EYE_OUTER, LEFT_EYE_INNER]
_MOUTH = [MOUTH_CORNER_RIGHT, MOUTH_CORNER_LEFT]


def crop_transform(mesh: NDArray[np.float32], side: int = CROP) -> NDArray[np.float32]:
    """Similarity [2, 3] from image pixels to the mouth crop, of `side` pixels, of a mesh [468, 2 or 3].

    Centre and angle follow the mouth, the size follows the distance between the eyes, so that opening the mouth does not zoom.
    """
    right, left = mesh[_RIGHT_EYE, :2].mean(0), mesh[_LEFT_EYE, :2].mean(0)
    across = left - right
    distance = max(float(np.hypot(*across)), 1e-3)
    cosine, sine = across / distance
    scale = side / ((FIRST_CROP_WIDTH if side == FIRST_CROP else CROP_WIDTH) * distance)
    matrix = scale * np.array([[cosine, sine], [-sine, cosine]], np.float32)
    centre = mesh[_MOUTH, :2].mean(0) + 0.12 * distance * np.array([-sine, cosine], np.float32)
    shift = side / 2 - matrix @ centre
    return np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)


def crop_bounds(
    transform: NDArray[np.float32], side: int, height: int, width: int, margin: int = 0
) -> tuple[int, int, int, int]:
    """Bounds x0, y0, x1, y1 of a crop in its image, with a margin in pixels; empty (x1 <= x0 or y1 <= y0) where they do not meet."""
    inverse = cv2.invertAffineTransform(transform)
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float32) @ inverse[:, :2].T + inverse[:, 2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - margin, 0, (width, height)).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + margin, 0, (width, height)).tolist()
    return x0, y0, x1, y1


def take_crop(image: NDArray[np.uint8], transform: NDArray[np.float32], side: int = CROP) -> NDArray[np.uint8]:
    """Cut the mouth crop [side, side, 3] out of an image; areas are averaged where the crop is smaller than its source."""
    scale = float(np.hypot(transform[0, 0], transform[0, 1]))
    if scale < 0.6:  # blur first: warpAffine alone would alias
        sigma = 0.45 / scale
        x0, y0, x1, y1 = crop_bounds(transform, side, image.shape[0], image.shape[1], int(4 * sigma) + 2)
        if x1 > x0 and y1 > y0:
            image = cv2.GaussianBlur(image[y0:y1, x0:x1], (0, 0), sigma)
            transform = np.concatenate([transform[:, :2], transform @ np.array([[x0], [y0], [1]])], 1).astype(
                np.float32
            )
    result: NDArray[np.uint8] = cv2.warpAffine(
        image,
        transform,
        (side, side),
        flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return result


def lips_in_crop(mesh: NDArray[np.float32], transform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner and outer outline of the lips of a mesh [468, 2 or 3] in crop pixels, [2, 20, 2]."""
    outlines = mesh[[LIPS_INNER, LIPS_OUTER], :2]
    return np.asarray(outlines @ transform[:, :2].T + transform[:, 2], np.float32)


def draw_lips(lips: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Draw inner mouth, lips (outer minus inner) and mouth region, [3, side, side] uint8, 0 to 255, for outlines of `lips_in_crop`."""

    def fill(outline: NDArray[np.float32]) -> NDArray[np.uint8]:
        canvas = np.zeros((side, side), np.uint8)
        cv2.fillPoly(canvas, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return canvas

    inner, outer = (fill(outline) for outline in lips)
    reach = 2 * round(side / 32) + 1
    region = cv2.GaussianBlur(cv2.dilate(outer, np.ones((reach, reach), np.uint8)), (0, 0), 3.0 * side / 128)
    return np.stack([inner, np.maximum(outer, inner) - inner, region])


def draw_masks(mesh: NDArray[np.float32], transform: NDArray[np.float32], side: int = CROP) -> NDArray[np.uint8]:
    """Draw inner mouth, lips (outer minus inner) and mouth region of a mesh in its crop: [3, side, side] uint8, 0 to 255."""
    return draw_lips(lips_in_crop(mesh, transform), side)


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
    """U-Net: crop [B, 10, S, S] in [-1, 1] (masks in 0..1) -> painted crop [B, 3, S, S] and mask [B, 1, S, S].

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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Paint crops; x [B, 10, S, S] as `painter_input` stacks it, see the class for the results."""
        h = self.enter(F.pixel_unshuffle(x, self.fold))
        skips = []
        for i, block in enumerate(self.encode):
            h = block(h if i == 0 else self.down[i - 1](h))
            skips.append(h)
        h = self.middle(h)
        for block, skip in zip(self.decode, skips[-2::-1], strict=True):
            h = block(torch.cat([skip, F.interpolate(h, scale_factor=2.0, mode="nearest")], 1))
        out = F.pixel_shuffle(self.leave(F.silu(h)), self.fold)
        warped, region = x[:, :3], x[:, 9:10]
        paint = (warped + out[:, :3]).clamp(-1, 1)
        return paint, torch.sigmoid(out[:, 3:]) * region


def painter_input(
    warped: NDArray[np.uint8], portrait: NDArray[np.uint8], masks: NDArray[np.uint8], portrait_inner: NDArray[np.uint8]
) -> Tensor:
    """Stack crops [N, S, S, 3], masks [N, 3, S, S] and the portrait's inner mouth [N, S, S] to [N, 10, S, S]."""
    pictures = [torch.from_numpy(p).permute(0, 3, 1, 2).float() / 127.5 - 1 for p in (warped, portrait)]
    drawn = torch.from_numpy(masks).float() / 255
    inner = torch.from_numpy(portrait_inner).float()[:, None] / 255
    return torch.cat([*pictures, drawn[:, :2], inner, drawn[:, 2:]], 1)
