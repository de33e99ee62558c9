"""The visible label: a word in a corner, readable on any picture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fantasytalking.errors import SettingsError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["Label", "check_label_text"]

_MOST_CHARACTERS = 60
# Pillow's own font has no letters beyond English ones, not even those with accents.
_FONT = Path(__file__).parent / "label_font" / "dejavu-sans-subset.ttf"

# Where it is not shown throughout: at the start, and again each minute, so that who comes in later sees it too.
SHOWN_SECONDS = 5.0
EVERY_SECONDS = 60.0
# Height of the letters' line over the picture's shorter side. A line of 5 % is what the EBU asks of subtitles at the least.
_SHARE = 0.055
_SMALLEST = 12
# White on a plate of this black: over a white picture the contrast is 10 : 1, and WCAG 2.2 (1.4.6, level AAA) asks for 7 : 1.
_PLATE = 0.75


def check_label_text(text: str) -> None:
    """Refuse a text that nobody could read in the picture.

    Raises:
        SettingsError: It is blank, has several lines, is too long, or has letters that the font has not.
    """
    shown = text.strip()
    if not shown or len(shown) > _MOST_CHARACTERS or not shown.isprintable():
        raise SettingsError(
            f"label_text must be a line of 1 to {_MOST_CHARACTERS} characters, but {_short(text)} was given; give a word such as AI, "
            "or set label to off."
        )
    unknown = dict.fromkeys(letter for letter in shown if not _is_drawn(letter))
    if unknown:
        raise SettingsError(
            f"label_text must be of Latin, Greek or Cyrillic letters, digits and punctuation, but {_short(text)} was given, and the "
            f"label cannot show {_short(''.join(unknown))}; give a word such as AI."
        )


class Label:
    """A text on a dark plate in the upper left corner, in several lines where the picture is narrow.

    Args:
        text: The text.
        always: Whether it is shown throughout; else for the first seconds of each minute.

    Raises:
        SettingsError: The text cannot be shown.
    """

    def __init__(self, text: str, always: bool) -> None:
        check_label_text(text)
        self._text, self._always = text, always
        self._plates: dict[tuple[int, int], npt.NDArray[np.float32]] = {}

    def draw(self, frame: npt.NDArray[np.uint8], second: float) -> npt.NDArray[np.uint8]:
        """The frame uint8 RGB [H, W, 3] that is shown at a second; a copy where the label is on it."""
        if not self._always and second % EVERY_SECONDS >= SHOWN_SECONDS:
            return frame
        size = frame.shape[:2]
        margin = min(size) // 40
        if size not in self._plates:
            self._plates[size] = _plate(self._text.strip(), min(size), size[1] - 2 * margin)
        letters = self._plates[size]
        height, width = (min(side, room - margin) for side, room in zip(letters.shape, size, strict=True))
        letters = letters[:height, :width, None]
        drawn = frame.copy()
        area = drawn[margin : margin + height, margin : margin + width]
        area[:] = np.rint(255 * letters + (1 - letters) * (1 - _PLATE) * area)
        return drawn


def _plate(text: str, side: int, width: int) -> npt.NDArray[np.float32]:
    """How white each pixel of the plate is, 0..1; at most so wide, if a letter is."""
    from PIL import Image, ImageDraw

    size = max(_SMALLEST, round(_SHARE * side))
    font, gap = _font(size), round(size / 3)
    lines = "\n".join(_lines(text, font, width - 2 * gap))
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), lines, font=font)
    image = Image.new("L", (round(right - left) + 2 * gap, round(bottom - top) + 2 * gap))
    ImageDraw.Draw(image).multiline_text((gap - left, gap - top), lines, fill=255, font=font)
    return np.asarray(image, np.float32) / np.float32(255)


def _lines(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """The text in lines that are no wider, between words where that is possible."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


@functools.cache
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    # Without shaping, which is not everywhere and would make the same label look different; these alphabets need none.
    return ImageFont.truetype(_FONT, size, layout_engine=ImageFont.Layout.BASIC)


def _is_drawn(letter: str) -> bool:
    font = _font(_SMALLEST)
    # The last code point is no character of any font: what is drawn for it stands for whatever is missing.
    mask, missing = font.getmask(letter), font.getmask("\U0010ffff")
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def _short(text: str) -> str:
    return repr(text) if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]!r} ..."
