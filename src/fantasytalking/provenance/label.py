"""The visible label: a word in a corner, readable on any picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Label"]

# Where it is not shown throughout: at the start, and again each minute, so that who comes in later sees it too.
SHOWN_SECONDS = 5.0
EVERY_SECONDS = 60.0
# Height of the letters' line over the picture's shorter side. A line of 5 % is what the EBU asks of subtitles at the least.
_SHARE = 0.055
_SMALLEST = 12
# White on a plate of this black: over a white picture the contrast is 10 : 1, and WCAG 2.2 (1.4.6, level AAA) asks for 7 : 1.
_PLATE = 0.75


class Label:
    """A text on a dark plate in the upper left corner.

    Args:
        text: The text.
        always: Whether it is shown throughout; else for the first seconds of each minute.
    """

    def __init__(self, text: str, always: bool) -> None:
        self._text, self._always = text, always
        self._plates: dict[tuple[int, int], npt.NDArray[np.float32]] = {}

    def draw(self, frame: npt.NDArray[np.uint8], second: float) -> npt.NDArray[np.uint8]:
        """The frame uint8 RGB [H, W, 3] that is shown at a second; a copy where the label is on it."""
        if not self._always and second % EVERY_SECONDS >= SHOWN_SECONDS:
            return frame
        size = frame.shape[:2]
        if size not in self._plates:
            self._plates[size] = _plate(self._text, min(size))
        letters = self._plates[size]
        margin = min(size) // 40
        height, width = (min(side, room - margin) for side, room in zip(letters.shape, size, strict=True))
        letters = letters[:height, :width, None]
        drawn = frame.copy()
        area = drawn[margin : margin + height, margin : margin + width]
        area[:] = np.rint(255 * letters + (1 - letters) * (1 - _PLATE) * area)
        return drawn


def _plate(text: str, side: int) -> npt.NDArray[np.float32]:
    """How white each pixel of the plate is, 0..1."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(_SMALLEST, round(_SHARE * side))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    gap = round(size / 3)
    image = Image.new("L", (round(right - left) + 2 * gap, round(bottom - top) + 2 * gap))
    ImageDraw.Draw(image).text((gap - left, gap - top), text, fill=255, font=font)
    return np.asarray(image, np.float32) / np.float32(255)
