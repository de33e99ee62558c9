"""What the stages hand to each other: a source video, a span of it, the prepared clip or why there is none, and the clock."""

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
        path: the file.
        key: unique and the same in every run; the keys of its clips begin with it.
        identity: who is seen; clips of one identity never lie in two splits.
        kind: "real" or "generated".
        split: "train" or "val".
        source: where it comes from, for provenance.
        terms: its licence or terms, for provenance.
        caption: what is seen, in words; empty where nobody said.
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
    """A part of a video that may become a clip; seconds after its first frame."""

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
        """How long it lasts."""
        return self.end - self.start


@dataclass
class PreparedClip:
    """A clip that was kept.

    Attributes:
        span: what it was made of.
        row: measures and provenance, values that JSON knows.
        files: content by extension: mp4, flac, jpg, safetensors.
    """

    span: ClipSpan
    row: dict[str, Any]
    files: dict[str, bytes]


@dataclass
class Dropped:
    """A clip that was not kept.

    Attributes:
        span: what was looked at.
        reason: short code, such as "no-face".
        detail: one sentence with what was found and what is accepted.
        row: what had been measured until then.
    """

    span: ClipSpan
    reason: str
    detail: str
    row: dict[str, Any] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - a verdict on a clip, which ends in `Dropped`, and no error of the program
    """Raised by a stage that drops the clip.

    Attributes:
        reason, detail: as of `Dropped`.
        row: what the stage had measured.
    """

    def __init__(self, reason: str, detail: str, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.row = reason, detail, dict(row or {})


class StageClock:
    """Adds up how long each stage takes and how many clips went through it.

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
        """Count the block's time, and `clips` clips, for a stage; also when the block raises."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begin
            self._clips[name] = self._clips.get(name, 0) + clips

    def count(self, name: str, clips: int) -> None:
        """Count clips for a stage of which it was not known before how many they are."""
        self._seconds.setdefault(name, 0.0)
        self._clips[name] = self._clips.get(name, 0) + clips

    def add(self, other: Mapping[str, Mapping[str, float]]) -> None:
        """Add what another clock's `as_dict` gave."""
        for name, entry in other.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + float(entry["seconds"])
            self._clips[name] = self._clips.get(name, 0) + int(entry["clips"])

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Stage -> {"seconds", "clips"}, in the order in which stages were first met."""
        return {name: {"seconds": self._seconds[name], "clips": self._clips[name]} for name in self._seconds}
