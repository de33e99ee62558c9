"""Text of others, made fit for a line of a terminal, a report or a page."""

from __future__ import annotations

__all__ = ["printable"]


def printable(value: object) -> str:
    """A value as text on one line: control characters, direction marks and broken encodings become visible escapes.

    A file name, or what a file says of itself, may hold a line break, an escape sequence of the terminal, or bytes that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))
