"""Pieces of plots as inline SVG: elements, scales, axes, figures.

Written by hand rather than by a plotting library: they stay sharp and small, follow the page's colours in light and dark mode, and the
reports need no optional package. Coordinates are units of the drawing, which the page scales; text is 11 units high.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from fantasytalking.reporting.html import number
from fantasytalking.system.printable_text import printable

__all__ = ["Scale", "element", "figure", "tick_label", "ticks", "x_axis", "y_axis"]


def element(name: str, *inside: str, **attributes: str | float) -> Markup:
    """An element with escaped content and attributes.

    Args:
        name: Tag.
        inside: Texts and elements; none gives an empty element.
        attributes: Names to values; `_` stands for `-` (`text_anchor`), `css` for `class`. Floats are written with one decimal.
    """
    opened = name
    for key, value in attributes.items():
        shown = f"{value:.1f}" if isinstance(value, float) else printable(value)
        opened += f' {"class" if key == "css" else key.replace("_", "-")}="{escape(shown)}"'
    if not inside:
        return Markup(f"<{opened}/>")
    return Markup(f"<{opened}>{_joined(inside)}</{name}>")


def _joined(parts: Iterable[str]) -> str:
    return "".join(part if isinstance(part, Markup) else str(escape(printable(part))) for part in parts)


class Scale:
    """Linear map from values to coordinates.

    Args:
        low: A value.
        high: Another value.
        first: Coordinate of `low`.
        last: Coordinate of `high`.
    """

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.first = low, first
        self.factor = (last - first) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        """Coordinate of a value."""
        return float(self.first + (value - self.low) * self.factor)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from low to high, about `count` of them."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999) * power
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, values: Sequence[float]) -> str:
    """A tick's number with as many decimals as the step between the ticks needs."""
    step = abs(values[1] - values[0]) if len(values) > 1 else abs(value)
    decimals = 0 if step == 0 else max(0, min(6, -math.floor(math.log10(step) + 1e-9)))
    # 2.5 needs one decimal more than 2 and 3.
    decimals += 1 if step and round(step * 10**decimals, 6) % 1 else 0
    return number(value, decimals)


def x_axis(places: Iterable[tuple[float, str]], x: Scale, bottom: float, top: float | None = None) -> list[Markup]:
    """Labels below the plot.

    Args:
        places: Values and their labels.
        x: Values to coordinates.
        bottom: Lower edge of the plot.
        top: Upper edge, to which grid lines are drawn; None draws none.
    """
    parts = []
    for value, label in places:
        at = x(value)
        if top is not None:
            parts.append(element("line", css="grid", x1=at, x2=at, y1=top, y2=bottom))
        parts.append(element("text", label, css="tick", x=at, y=bottom + 14, text_anchor="middle"))
    return parts


def y_axis(places: Iterable[tuple[float, str]], y: Scale, left: float, right: float) -> list[Markup]:
    """Labels to the left of the plot, and grid lines.

    Args:
        places: Values and their labels.
        y: Values to coordinates.
        left: Left edge of the plot.
        right: Right edge of the plot.
    """
    parts = []
    for value, label in places:
        at = y(value)
        parts.append(element("line", css="grid", x1=left, x2=right, y1=at, y2=at))
        parts.append(element("text", label, css="tick", x=left - 6, y=at + 4, text_anchor="end"))
    return parts


def figure(
    title: str,
    told: str,
    parts: Iterable[Markup],
    size: tuple[int, int],
    subtitle: str = "",
    legend: Markup | None = None,
) -> Markup:
    """A plot with its caption.

    Args:
        title: Caption.
        told: What the plot shows, in words, for whoever cannot see it.
        parts: Elements of the drawing.
        size: Width and height.
        subtitle: Second line of the caption.
        legend: Below the drawing.
    """
    caption = [title, " ", element("span", subtitle, css="sub")] if subtitle else [title]
    drawing = element("svg", *parts, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=f"{title}. {told}")
    return element("figure", element("figcaption", *caption), drawing, legend or Markup(""), css="plot")
