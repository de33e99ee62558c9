"""Videos in ComfyUI's output folder: their names, what is written, and what the page shows of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from numpy.typing import NDArray

from fantasytalking.media.audio import Audio
from fantasytalking.media.video_formats import ENDINGS
from fantasytalking.provenance.marks import Marks

__all__ = ["FORMATS", "OutputFile", "new_file", "save_video"]

FORMATS = [ending.removeprefix(".") for ending in ENDINGS]
"""Formats of the videos."""


@dataclass(frozen=True)
class OutputFile:
    """A file in the output folder.

    Attributes:
        path: The file.
        subfolder: Its folder within the output folder, as ComfyUI's page asks for it.
    """

    path: Path
    subfolder: str

    def shown(self) -> dict[str, Any]:
        """What the page needs to show the video below the node, in the form of ComfyUI's own video nodes."""
        file = {"filename": self.path.name, "subfolder": self.subfolder, "type": "output"}
        return {"images": [file], "animated": (True,)}


def new_file(prefix: str, ending: str, size: tuple[int, int] = (0, 0), goes_on: bool = False) -> OutputFile:
    """A new name in the output folder, numbered as ComfyUI does it.

    Args:
        prefix: Beginning of the name, with folders; it may hold ComfyUI's placeholders.
        ending: One of `FORMATS`.
        size: (H, W), for the placeholders.
        goes_on: Take the name of the last video of which an interrupted run left a part.
    """
    parent, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), size[1], size[0]
    )
    folder = Path(parent)
    if goes_on:
        # ComfyUI counts what was left as a file of that number.
        left = folder / f"{name}_{counter - 1:05}_.{ending}"
        if left.with_name(f"{left.name}.unfinished").is_dir() and not left.exists():
            return OutputFile(left, subfolder)
    return OutputFile(folder / f"{name}_{counter:05}_.{ending}", subfolder)


def save_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float, audio: Audio, marks: Marks) -> None:
    """Write frames and their sound with the marks of their generation: the only place in which nodes save frames.

    Args:
        path: The file.
        frames: Frames, uint8 [H, W, 3] each.
        fps: Frames per second.
        audio: Sound.
        marks: What the video is marked with.

    Raises:
        OutputError: The file cannot be written.
    """
    from fantasytalking.pipeline.talking_video import VideoOutput

    with VideoOutput(path).open(fps, audio, marks) as writer:
        for frame in frames:
            writer.write(frame)
