"""Captions of clips, from text files beside the videos."""

from __future__ import annotations

from pathlib import Path

from fantasytalking.data.preparation.clip_records import SourceVideo
from fantasytalking.data.preparation.preparation_settings import PreparationSettings

__all__ = ["caption_of"]

_LONGEST = 2000


def caption_of(video: SourceVideo, settings: PreparationSettings) -> str:
    """Caption of a video on one line: its own, else the text file beside it (`name.txt` beside `name.mp4`), else nothing.

    Args:
        video: The video.
        settings: Uses `captions`.
    """
    if settings.captions == "none":
        return ""
    text = video.caption
    beside = Path(video.path).with_suffix(".txt")
    if not text and beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")[:_LONGEST]
    return " ".join(text.split())
