"""Records that the stages pass on: a source video, a span of it, the prepared clip or the reason why there is none, and the clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ClipSpan", "Dropped", "PreparedClip", "Refusal", "SourceVideo", "StageClock"]


@dataclass(frozen=True)
class SourceVideo:
    """A video that clips are cut from.

    Attributes:
        path: Path of the file.
        key: Unique name, the same in every run; the keys of its clips begin with it.
        identity: Name of the person that it shows; clips of one identity are never in two splits.
        kind: "real" or "generated".
        split: "train" or "val".
        source: Where it comes from, for provenance.
        terms: Its licence or terms of use, for provenance.
        caption: What is seen, in words; empty if unknown.
    """

    path: str
    key: str
    identity: str
    kind: str
    split: str
    source: str
    terms: str
    caption: str = ""


@dataclass(frozen=True)
class ClipSpan:
    """A part of a video that may become a clip.

    Attributes:
        video: The source.
        index: Number of the span in its video.
        start: Where it begins, in seconds after the first frame.
        end: Where it ends, likewise.
    """

    video: SourceVideo
    index: int
    start: float
    end: float

    @property
    def key(self) -> str:
        """Unique name of the clip in the set."""
        return f"{self.video.key}-{self.index:04d}"

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass
class PreparedClip:
    """A clip that was kept.

    Attributes:
        span: The part of the video that it was made from.
        row: Measures, as values that JSON can hold.
        files: Content by ending: mp4, flac, jpg, safetensors.
    """

    span: ClipSpan
    row: dict[str, Any]
    files: dict[str, bytes]


@dataclass
class Dropped:
    """A clip that was not kept.

    Attributes:
        span: The part of the video that was examined.
        reason: Short code, such as "no-face".
        detail: One sentence with what was found and what is accepted.
        row: Everything that was measured before it was dropped.
    """

    span: ClipSpan
    reason: str
    detail: str
    row: dict[str, Any] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - a verdict on a clip, which becomes `Dropped`, and not an error of the program
    """Raised by a stage that drops the clip.

    Attributes:
        reason: See `Dropped`.
        detail: See `Dropped`.
        row: Measures of the stage.
    """

    def __init__(self, reason: str, detail: str, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.row = reason, detail, dict(row or {})


class StageClock:
    """Adds up the time of each stage and the number of clips that went through it.

    Example:
        ```python
        with clock.stage("faces"):
            ...
        ```
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._clips: dict[str, int] = {}

    @contextlib.contextmanager
    def stage(self, name: str, clips: int = 1) -> Iterator[None]:
        """Add the time of the block, and `clips` clips, to a stage; also if the block raises."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begin
            self._clips[name] = self._clips.get(name, 0) + clips

    def count(self, name: str, clips: int) -> None:
        """Add clips to a stage whose number of clips was not known before it ran."""
        self._seconds.setdefault(name, 0.0)
        self._clips[name] = self._clips.get(name, 0) + clips

    def add(self, other: Mapping[str, Mapping[str, float]]) -> None:
        """Add the stages of another clock, as its `as_dict` gave them."""
        for name, entry in other.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + float(entry["seconds"])
            self._clips[name] = self._clips.get(name, 0) + int(entry["clips"])

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Seconds and clips by stage, {"seconds", "clips"} each, in the order in which the stages first ran."""
        return {name: {"seconds": self._seconds[name], "clips": self._clips[name]} for name in self._seconds}
