"""Report pages from Jinja2 templates, with one frame, one style and one content security policy for all.

Names of files and methods come from outside and may hold anything, markup included. The templates escape every value that is not
`Markup`, and show it on one line (see `printable`); the policy in the page keeps the browser from loading or running anything but the
page's own style and script, whatever a name contains.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fantasytalking.system.printable_text import printable

__all__ = ["ARROWS", "DASH", "finite", "number", "plural", "render", "render_page"]

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
"""Signs of a metric's better direction."""
DASH = "–"
"""Shown where there is no number."""

_FOLDER = Path(__file__).parent


def render(template: Path, **values: Any) -> Markup:
    """Fill a template.

    Args:
        template: The file; it may include and import others of its folder and of `reporting/templates`.
        values: Names that the template uses; one that is missing is an error.

    Returns:
        HTML, which another template takes as it is.
    """
    return Markup(_environment(template.parent).get_template(template.name).render(**values))


def render_page(
    template: Path,
    sections: Sequence[tuple[str, str]],
    style: str = "",
    script: str = "",
    sources: str = "",
    **values: Any,
) -> str:
    """Fill the template of a whole page, which extends `frame.html`.

    Args:
        template: The file.
        sections: Anchors and names for the page's navigation.
        style: CSS besides that of all reports.
        script: JavaScript; nothing else may run.
        sources: Further directives of the content security policy, such as "img-src data:".
        values: Names that the template uses.
    """
    style = (_FOLDER / "report.css").read_text("utf-8") + style
    policy = ["default-src 'none'", sources, f"style-src '{_source_hash(style)}'"]
    if script:
        policy.append(f"script-src '{_source_hash(script)}'")
    return str(
        render(
            template,
            policy="; ".join(filter(None, policy)),
            style=Markup(style),
            script=Markup(script),
            sections=sections,
            **values,
        )
    )


def finite(value: Any) -> float | None:
    """The value as a float; None where it is not a number, NaN or infinite."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if ok else None


def number(value: float | None, decimals: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash for None."""
    known = finite(value)
    if known is None:
        return DASH
    shown = f"{known:.{max(0, decimals)}f}"
    if not shown.strip("-0."):
        shown = shown.lstrip("-")
    return shown.replace("-", "−")


def plural(count: int, noun: str, several: str = "") -> str:
    """A count with its noun: "1 clip", "2 clips"; `several` is the plural where it is not the noun with an s."""
    return f"{count} {noun if count == 1 else several or noun + 's'}"


def _source_hash(code: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _FOLDER / "templates"]),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "plural": plural}
    environment.globals |= {"ARROWS": ARROWS, "DASH": DASH}
    return environment
