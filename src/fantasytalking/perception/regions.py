"""Rotated square regions of an image, cropped as input for a network.

Pixel coordinates are pixel indices (the centre of the first pixel is 0), as the bundled networks expect.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from fantasytalking.errors import ImageError

Border = Literal["replicate", "black"]
_BORDERS = {"replicate": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT}


@dataclass(frozen=True)
class Region:
    """Square of ``size`` px around ``(x, y)`` px, rotated by ``angle`` radians (clockwise on the screen)."""

    x: float
    y: float
    size: float
    angle: float = 0.0

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Map region coordinates (0 to 1 across the square) to image pixels.

        Args:
            points: Points [..., 2] or [..., 3]; a third coordinate is depth in units of the square's side.

        Returns:
            Points of the same shape, float32, in pixels (including depth).
        """
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        out = np.array(points, dtype=np.float32) * self.size
        x, y = out[..., 0] - self.size / 2, out[..., 1] - self.size / 2
        out[..., 0] = x * cos - y * sin + self.x
        out[..., 1] = x * sin + y * cos + self.y
        return out

    def scaled(self, factor: float) -> "Region":
        """Square with the same centre and angle, ``factor`` times as large."""
        return Region(self.x, self.y, self.size * factor, self.angle)


def check_image(image: np.ndarray) -> None:
    """Check that an image is uint8 of shape [H, W, 3] with at least one pixel.

    Raises:
        ImageError: It is not.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"An image is a uint8 array [height, width, 3] in RGB order, not {given}; use load_image().")
    if image.size == 0:
        raise ImageError(f"The image of shape {image.shape} has no pixels; pass one with height and width above 0.")


def cut(image: np.ndarray, region: Region, side: int, border: Border = "replicate") -> np.ndarray:
    """Crop a region to a square image.

    Args:
        image: Image uint8 [H, W, 3].
        region: Square in pixels, which may extend beyond the image.
        side: Side of the result in pixels.
        border: Fill beyond the image: "replicate" repeats its edge pixels, "black" is black.

    Returns:
        The crop, uint8 [side, side, 3].
    """
    origin, factor = (0.0, 0.0), int(region.size // (1.5 * side))
    if factor >= 2:
        # Bilinear sampling would alias, so whole blocks of pixels are averaged first.
        image, origin = _reduce(image, region, factor)
    scale = side / region.size
    cos, sin = math.cos(region.angle) * scale, math.sin(region.angle) * scale
    x, y = region.x - origin[0], region.y - origin[1]
    block = max(factor, 1)
    matrix = np.array([[cos, sin, side / 2 - cos * x - sin * y], [-sin, cos, side / 2 + sin * x - cos * y]])
    if block > 1:
        # Pixel j of the reduced image is centred on pixel block * j + (block - 1) / 2 of the original.
        matrix[:, 2] += matrix[:, :2] @ np.full(2, (block - 1) / 2)
        matrix[:, :2] *= block
    result: np.ndarray = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=_BORDERS[border]
    )
    return result


def _reduce(image: np.ndarray, region: Region, factor: int) -> tuple[np.ndarray, tuple[float, float]]:
    height, width = image.shape[:2]
    reach = region.size * (abs(math.cos(region.angle)) + abs(math.sin(region.angle))) / 2 + 2 * factor
    left, top = (int(min(max(c - reach, 0), n - 1)) for c, n in ((region.x, width), (region.y, height)))
    right, bottom = (int(min(max(c + reach, 1), n)) for c, n in ((region.x, width), (region.y, height)))
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    rows, columns = (max(1, n // factor) for n in part.shape[:2])
    part = part[: rows * factor, : columns * factor]
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), (float(left), float(top))
