"""The record of the frames that all rows of a report are measured over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CommonFrames"]


@dataclass(frozen=True)
class CommonFrames:
    """Frames that all rows of the table are measured over.

    Attributes:
        same: Whether the rows have clips in common, and each of these with the same frames in every row. Otherwise no value is called best.
        clips: Names of the clips that count: those that every row has. A metric that fails in a row counts fewer, see `Summary.clips`.
        frames: Number of frames of these clips together, at the protocol's rate.
        cut: Names of those that are cut, in every row, to the end of the shortest of their videos.
        apart: Keys of columns in which the rows have values of no common clip; no value of theirs is called best.
    """

    same: bool
    clips: tuple[str, ...]
    frames: int
    cut: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    def told(self, fps: float) -> str:
        """How the rows were made equal, as a sentence.

        Args:
            fps: The protocol's frame rate.
        """
        if not self.same:
            return "The rows are measured over different frames, so nothing is called best."
        count = "1 clip" if len(self.clips) == 1 else f"{len(self.clips)} clips"
        cut = f", {len(self.cut)} of them cut to that" if self.cut else ""
        return (
            f"All rows are measured over the same frames: {count}, each from its beginning to the end of the shortest of its videos"
            f"{cut}, {self.frames / fps:.1f} s in all."
        )

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any] | None) -> CommonFrames | None:
        """Read what `dataclasses.asdict` gave; None for None.

        Raises:
            KeyError: `raw` lacks a field.
        """
        if raw is None:
            return None
        return cls(raw["same"], tuple(raw["clips"]), raw["frames"], tuple(raw["cut"]), tuple(raw["apart"]))
