"""What is seen in a clip, in words, where somebody wrote it down."""

from __future__ import annotations

from pathlib import Path

from fantasytalking.data.preparation.clip_records import SourceVideo
from fantasytalking.data.preparation.preparation_settings import PreparationSettings

__all__ = ["caption_of"]

_LONGEST = 2000


def caption_of(video: SourceVideo, settings: PreparationSettings) -> str:
    """The catalogue's caption, else the text file beside the video (`name.txt` beside `name.mp4`), else nothing; one line."""
    if settings.captions == "none":
        return ""
    text = video.caption
    beside = Path(video.path).with_suffix(".txt")
    if not text and beside.is_file():
        text = beside.read_text(errors="replace")[:_LONGEST]
    return " ".join(text.split())
