"""The first calls of a process, made before anybody waits for them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from fantasytalking.errors import OutputError, SettingsError
from fantasytalking.media.audio import Audio
from fantasytalking.media.stream_writer import StreamWriter
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.progress import QuietProgress

__all__ = ["warm_up"]

_SECONDS, _RATE, _SIDE = 0.6, 16000, 128


def warm_up(pipeline: Any) -> None:
    """Make a short, small video of the packaged portrait in one step, and throw it away.

    Packages that are imported at their first use, networks that are read then, and what encoders of video and signatures set up once, are
    there afterwards.

    Args:
        pipeline: The pipeline.
    """
    time = np.arange(round(_SECONDS * _RATE)) / _RATE
    hum = Audio((0.1 * np.sin(2 * np.pi * 150 * time)).astype(np.float32), _RATE)
    portrait = embedded_folder() / "example" / "portrait.png"
    frames = list(
        pipeline.stream(portrait, hum, progress=QuietProgress(), steps=1, longest_side=_SIDE, max_seconds=None)
    )
    first = frames[0]
    # Where there is no key to sign with, whoever makes a video is told.
    with (
        contextlib.suppress(SettingsError, OutputError),
        StreamWriter(lambda data: None, first.fps, first.sample_rate, marks=first.marks) as writer,
    ):
        for frame in frames:
            writer.write(frame.pixels, frame.sound)
