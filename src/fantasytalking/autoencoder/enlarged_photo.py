"""The photo, enlarged once, so that frames can be sampled from it quickly and as sharply as with a long filter."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["EnlargedPhoto"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# odd, so that every pixel of the photo is one of the enlarged picture, and motion of 0 changes nothing
FACTORS = (5, 3, 1)
LONGEST_SIDE = 4096  # of the enlarged part: at most 64 MB
MARGIN = 4  # pixels around the part, as much as Lanczos' filter reaches


class EnlargedPhoto:
    """Part of a photo that is sampled at any places.

    Lanczos interpolation at every place of every frame is the dearest step of a warp; cubic interpolation loses a tenth of the skin's fine
    detail. Linear interpolation of a picture that was enlarged fivefold by Lanczos loses 1 %, in a sixteenth of the time.

    Args:
        image: [H, W, 3] uint8.
        box: x0, y0, x1, y1 of the part from which samples are taken.
    """

    def __init__(self, image: Pixels, box: tuple[int, int, int, int]) -> None:
        height, width = image.shape[:2]
        self.x0, self.y0 = max(0, box[0] - MARGIN), max(0, box[1] - MARGIN)
        part = image[self.y0 : min(height, box[3] + MARGIN), self.x0 : min(width, box[2] + MARGIN)]
        self.factor = next(f for f in FACTORS if f == 1 or f * max(part.shape[:2]) <= LONGEST_SIDE)
        self.picture = part
        if self.factor > 1:
            # four channels are twice as fast to sample as three
            large = cv2.resize(part, None, fx=self.factor, fy=self.factor, interpolation=cv2.INTER_LANCZOS4)
            self.picture = cv2.cvtColor(large, cv2.COLOR_RGB2RGBA)
        rows, columns = part.shape[:2]
        self.places = np.empty((2, rows, columns), np.float32)  # of the photo's pixels in the picture
        self.places[0] = (np.arange(columns, dtype=np.float32) + 0.5) * self.factor - 0.5
        self.places[1] = ((np.arange(rows, dtype=np.float32) + 0.5) * self.factor - 0.5)[:, None]

    def sample(self, back: Array, origin: tuple[int, int]) -> Pixels:
        """Pixels [h, w, 3] for displacements [2, h, w] from the pixels of a box at `origin`, inside the part, to where they came from."""
        height, width = back.shape[1:]
        x, y = origin[0] - self.x0, origin[1] - self.y0
        places = self.places[:, y : y + height, x : x + width]
        at_x, at_y = (cv2.scaleAdd(one, self.factor, place) for one, place in zip(back, places, strict=True))
        if self.factor == 1:
            lanczos = cv2.remap(self.picture, at_x, at_y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
            return np.asarray(lanczos, np.uint8)
        sampled = cv2.remap(self.picture, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB), np.uint8)
