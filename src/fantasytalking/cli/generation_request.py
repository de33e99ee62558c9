"""What a command that generates was asked for, once its inputs are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fantasytalking.cli.options import RunOptions
from fantasytalking.cli.plan_options import MemoryOptions, ProfileOptions

if TYPE_CHECKING:
    from fantasytalking.acceleration.ranks import Ranks
    from fantasytalking.cli.stream_run import Streamed
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.talking_video import TalkingVideo
    from fantasytalking.pipeline.written_video import WrittenVideo

    Made = TalkingVideo | Streamed | WrittenVideo

__all__ = ["Place", "Request"]


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
    """What a command was asked for.

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
