"""The API of nodes: types and schema, extension, video files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import av

from . import _io as io  # as ComfyUI does: this package has no other name

__all__ = ["ComfyExtension", "InputImpl", "io"]


class ComfyExtension(ABC):
    async def on_load(self) -> None:
        """Nothing, unless an extension has something to do."""
        return

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...


class VideoFromFile:
    """A VIDEO; the real one may also be a part of its file, which its duration tells."""

    def __init__(self, file: str, *, start_time: float = 0, duration: float = 0) -> None:
        self.file, self.start, self.length = file, start_time, duration

    def get_stream_source(self) -> str:
        return self.file

    def get_duration(self) -> float:
        with av.open(self.file) as container:
            whole = float((container.duration or 0) / av.time_base)
        return self.length or whole - self.start

    def save_to(
        self, path: Any, format: Any = "auto", codec: Any = "auto", metadata: dict[str, Any] | None = None
    ) -> None:
        from fantasytalking.media.video import iterate_frames, write_video

        with av.open(self.file) as container:
            rate = container.streams.video[0].average_rate
        assert rate is not None
        first, count = round(self.start * rate), round(self.get_duration() * rate)
        frames = list(iterate_frames(Path(self.file)))[first : first + count]
        write_video(path, frames, rate, None)


class InputImpl:
    VideoFromFile = VideoFromFile
