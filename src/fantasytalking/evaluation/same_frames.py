"""Whether rows are measured over the same frames of the same clips, from their results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fantasytalking.evaluation.results import Method

__all__ = ["have_same_frames", "shared_clips"]


def shared_clips(rows: Sequence[Method]) -> list[str]:
    """Names of the clips that every row with any clip has; real frames with other sound are no row of their own in this."""
    having = [row.clips for row in rows if row.clips and not row.shows_other_sound]
    return [name for name in having[0] if all(name in clips for clips in having)] if having else []


def have_same_frames(rows: Sequence[Method], counted: Mapping[str, Sequence[str]]) -> bool:
    """Whether rows, of one report or of several, are measured over the same frames of the same clips.

    Args:
        rows: The rows of a table.
        counted: Name of a row -> names of the clips that its figures are of; a row that is missing counts all of its clips.
    """
    sets = {
        frozenset((name, clip.frames) for name, clip in row.clips.items() if name in counted.get(row.name, row.clips))
        for row in rows
        if row.clips and not row.shows_other_sound
    }
    return len(sets) <= 1
