"""What a closing lid shows: skin that lies folded above an open eye, which the photo does not have, and a line of lashes.

Stretching what is between brow and eye over the eye smears its shade, and as the mesh finds the edges of lids to within some pixels, a
white line stays where they meet. A closed lid has the colour of the skin around the eye and ends in a dark line: so it is painted.

Letters: u and v as in `autoencoder.openings`; W is the width of the eye.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.openings import PlacedOpening

__all__ = ["LidSkin"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

COLUMNS, ROWS = 48, 32  # of a lid's picture: along the eye, and from the lashes up to the crease
ABOVE, BELOW = 0.09, 0.16  # places beside the upper and the lower edge whose colours the lid takes, in W
GRAIN = 0.05  # standard deviation of the Gaussian that parts a colour from the grain of the skin, in W
CREASE = 0.14  # how far above the edge of the open lid the painted lid begins, in W
UNDER = 0.02  # how far it reaches below the line where the lids meet, in W
LASHES, DARKNESS = 0.065, 0.75
"""Half width of the line of lashes, in W, and how much of it is theirs. Chosen on people of the training footage: of 33 photos with a blink
drawn over each, the mesh network sees it in 24 where the skin is stretched, in 27 where the lid is painted, and in 31 with the line."""
LEAST = 0.08  # share of a closure that may as well be a turn of the head
SHUT = 0.07  # opening in the photo, in W, below which an eye is closed already
SOON = 0.3  # share from which on the lid is opaque


class LidSkin:
    """The painted upper lid of one eye.

    Args:
        image: The portrait [H, W, 3] uint8 RGB.
        placed: The eye.
    """

    def __init__(self, image: Pixels, placed: PlacedOpening) -> None:
        self.placed, self.width = placed, 2 * placed.half_width
        height, width = image.shape[:2]
        corners = placed.image(np.array([[x, y] for x in (-1, 1) for y in (-1, 1)], np.float32) * 1.2 * self.width)
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, (width - 1, height - 1)).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, (x0 + 1, y0 + 1), (width, height)).astype(int).tolist()
        self._corner = np.array([x0, y0], np.float32)
        photo = image[y0:y1, x0:x1].astype(np.float32)
        smooth = cv2.GaussianBlur(photo, (0, 0), max(GRAIN * self.width, 0.5))
        self.picture = self._skin(smooth, photo - smooth)
        self.lashes = self._lash_colour(photo)

    def _sample(self, photo: Array, u: Array, v: Array) -> Array:
        at = self.placed.image(np.stack(np.broadcast_arrays(u, v), -1)) - self._corner
        return np.asarray(cv2.remap(photo, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)

    def _skin(self, smooth: Array, grain: Array) -> Array:
        """Colours of the lid [ROWS, COLUMNS, 3], from the lashes up: those below the eye turn into those above it."""
        placed, width = self.placed, self.width
        u = np.linspace(-1, 1, COLUMNS, dtype=np.float32)[None] * placed.half_width
        upper, lower = placed.upper.at(u), placed.lower.at(u)
        over = np.minimum(ABOVE * width, np.maximum(upper - placed.above.at(u), 0) / 2)
        top, bottom = (
            cv2.GaussianBlur(self._sample(smooth, u, v), (0, 0), 5, borderType=cv2.BORDER_REPLICATE)
            for v in (upper - over, lower + BELOW * width)
        )
        share = np.linspace(0, 1, ROWS, dtype=np.float32)[:, None, None] ** 2
        # the grain of the skin below the eye, mirrored at its edge; what stands out there (glasses, lashes) is none
        found = self._sample(grain, u, lower + np.linspace(0.06, 0.36, ROWS, dtype=np.float32)[:, None] * width)
        most = np.maximum(3 * np.median(np.abs(found), (0, 1)), 1.0)
        return np.asarray(bottom + share * (top - bottom) + np.clip(found, -most, most), np.float32)

    def _lash_colour(self, photo: Array) -> Array:
        """Colour [3] of the lashes: the skin's, as dark as the darkest sixth of what lies along the edge of the open lid."""
        u = np.linspace(-0.8, 0.8, COLUMNS, dtype=np.float32)[None] * self.placed.half_width
        v = self.placed.upper.at(u) + np.linspace(-0.05, 0.07, 12, dtype=np.float32)[:, None] * self.width
        levels = np.sort(self._sample(photo, u, v).mean(-1), None)
        skin = self.picture.mean((0, 1))
        return np.asarray(skin * min(1.0, float(levels[: len(levels) // 6].mean()) / max(float(skin.mean()), 1.0)))

    def closure(self, pulled: Array) -> float:
        """How far the eye is closed, 0 to 1, for a moved mesh without the motion of the skull [468, 2]; 0 if the photo has it closed."""
        if self.placed.gap < SHUT * self.width:
            return 0.0
        u = self.placed.upper.u[1:-1]
        upper, lower = (edge.at(u) for edge in self.placed.moved(pulled))
        before = np.maximum(self.placed.lower.at(u) - self.placed.upper.at(u), 1e-3)
        closed = 1 - float(np.maximum(lower - upper, 0).sum() / before.sum())
        return max(0.0, (closed - LEAST) / (1 - LEAST))

    def draw(self, frame: Pixels, points: Array, affine: Array) -> None:
        """Draw the lid as far as it is closed, in place.

        Args:
            frame: [H, W, 3].
            points: The moved mesh [468, 2 or 3].
            affine: Motion of the skull [3, 2]: the portrait's x, y, 1 times it is the place in the frame.
        """
        inverse = np.linalg.inv(affine[:2]).astype(np.float32)
        pulled = (points[:, :2] - affine[2]) @ inverse
        closure = self.closure(pulled)
        if not closure:
            return
        edges = np.concatenate([self.placed.mesh[edge.points] for edge in (self.placed.upper, self.placed.lower)])
        places = edges @ affine[:2] + affine[2]
        size, margin = frame.shape[1::-1], 0.2 * self.width
        x0, y0 = np.clip(np.floor(places.min(0) - margin), 0, size).astype(int)
        x1, y1 = np.clip(np.ceil(places.max(0) + margin) + 1, 0, size).astype(int)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        ys, xs = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        self._paint(frame[y0:y1, x0:x1], (np.stack([xs, ys], -1) - affine[2]) @ inverse, pulled, closure)

    def _paint(self, frame: Pixels, source: Array, pulled: Array, closure: float) -> None:
        """Paint the lid into a part of a frame [h, w, 3] whose pixels lie at `source` [h, w, 2] in the portrait."""
        placed, width = self.placed, self.width
        uv = placed.local(source)
        u, v = uv[..., 0], uv[..., 1]
        edge, below = (line.at(u) for line in placed.moved(pulled))
        top = below - np.maximum(placed.lower.at(u) - placed.upper.at(u), 0) - CREASE * width
        pixel = max(float(np.hypot(*(source[1, 0] - source[0, 0]))), 1e-3)
        across = np.abs(u) / placed.half_width
        opaque = (1 - smoothstep((across - 0.9) / 0.2)) * smoothstep(np.array([closure / SOON]))
        row = (edge - v) / np.maximum(edge - top, 1e-3) * (ROWS - 1)
        column = (u / placed.half_width + 1) / 2 * (COLUMNS - 1)
        skin = cv2.remap(self.picture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        above = np.clip(0.5 + (edge + UNDER * width - v) / max(pixel, 0.02 * width), 0, 1)
        share = opaque * smoothstep((v - top) / (1.4 * CREASE * width)) * above
        result = frame + share[..., None] * (skin - frame)
        thickness = np.maximum(LASHES * width * (1 - 0.6 * across**2), 0.6 * pixel)
        line = DARKNESS * opaque * (1 - 0.5 * across.clip(0, 1) ** 4) * np.exp(-(((v - edge) / thickness) ** 2))
        result += line[..., None] * (self.lashes - result)
        frame[:] = np.rint(result.clip(0, 255)).astype(np.uint8)
