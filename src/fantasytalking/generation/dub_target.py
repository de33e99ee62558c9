"""Where a dubbed video goes, and one in which several people speak."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
    from fantasytalking.pipeline.progress import Progress
    from fantasytalking.pipeline.written_video import WrittenVideo

__all__ = ["DubTarget"]


@dataclass(frozen=True)
class DubTarget:
    """Where a dubbed video goes.

    Attributes:
        output: The file.
        overwrite: Whether an existing file may be replaced.
        is_footage: Whether footage is dubbed; else several people speak in a picture.
    """

    output: Path
    overwrite: bool
    is_footage: bool

    def write(
        self,
        pipeline: FantasyTalkingPipeline,
        inputs: tuple[Any, Any],
        settings: dict[str, Any],
        threads: int,
        progress: Progress,
    ) -> WrittenVideo:
        """Make and write; the arguments are those of `StreamTarget.write`, with footage, or portraits by face, in place of the portrait."""
        from fantasytalking.pipeline.talking_video import VideoOutput

        output = VideoOutput(self.output, self.overwrite, threads)
        make = pipeline.dub if self.is_footage else pipeline.speak_together
        return make(*inputs, output, progress=progress, **settings)
