"""What is generated, once its inputs are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fantasytalking.generation.run_options import MemoryOptions, ProfileOptions, RunOptions

if TYPE_CHECKING:
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress

__all__ = ["Made", "Place", "Request"]


class Made(Protocol):
    """What was generated: `TalkingVideo`, `Streamed`, `WrittenVideo`."""

    @property
    def duration(self) -> float:
        """Length in seconds."""

    @property
    def settings(self) -> Any:
        """Settings of the generation."""

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""


class Place(Protocol):
    """Where a video goes that the pipeline's call does not write: `StreamTarget`, `DubTarget`."""

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> Made:
        """Generate and write; the arguments are those of `StreamTarget.write`."""


@dataclass(frozen=True)
class Request:
    """What is generated, and how.

    Attributes:
        model: Name of the model.
        portrait: The portrait, read already where the model's demands are known.
        speech: The speech, likewise.
        target: The video to write.
        run: Where and how the command runs.
        settings: Settings that were given, by name.
        memory: Options about memory.
        profile: Options about speed.
        place: Where the video goes that the pipeline's call does not write; None: `target` is complete or not there.
        ranks: Processes that share the work, of which this is one; None: it works alone.
    """

    model: str
    portrait: Any
    speech: Any
    target: Path
    run: RunOptions
    settings: dict[str, Any]
    memory: MemoryOptions
    profile: ProfileOptions
    place: Place | None = None
    ranks: Ranks | None = None
