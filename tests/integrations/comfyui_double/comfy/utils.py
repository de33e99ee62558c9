"""The node's progress bar."""

from __future__ import annotations

from typing import Any

shown: list[tuple[int, int]] = []
"""Each (value, total) that a bar was set to."""


class ProgressBar:
    def __init__(self, total: int, node_id: Any = None) -> None:
        self.total, self.current = total, 0

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        shown.append((self.current, self.total))

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)
