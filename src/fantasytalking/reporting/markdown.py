"""Text from outside in Markdown: names of files and methods may hold anything, and are shown as they are.

Only what CommonMark and GitHub's tables would take for markup is escaped, as the same text is read in a terminal.
"""

from __future__ import annotations

import re

from fantasytalking.system.printable_text import printable

__all__ = ["markdown", "markdown_cell"]

_SPECIAL = re.compile(
    r"[\\`*~\[\]<>]"  # code, emphasis, links, HTML
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, which an underscore within a word is not
    r"|&(?=#?\w+;)"  # entities
)


def markdown(value: object) -> str:
    """A value as one line of Markdown that shows it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", printable(value))


def markdown_cell(value: object) -> str:
    """A value as the cell of a Markdown table that shows it as it is: a bar does not end the cell."""
    return markdown(value).replace("|", "\\|")
