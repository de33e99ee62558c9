"""Formats of the videos that can be written. Needs no framework, so that a wrong name is told at once."""

from __future__ import annotations

__all__ = ["ENDINGS", "FORMATS"]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Ending of a file's name -> format of PyAV."""
ENDINGS = tuple(FORMATS)
"""Endings that the name of a video may have."""
STREAM_ENDINGS = (".mp4", ".m4v")
"""Endings of the files that play while they grow."""
