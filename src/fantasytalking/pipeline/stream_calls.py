"""Calls of a pipeline that give frames as they are made."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch

from fantasytalking.errors import InputError
from fantasytalking.pipeline.call_arguments import cases_of, checked_progress, settings_maker
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.inputs import AudioSource, ImageSource
from fantasytalking.pipeline.long_output import StreamedFrame, streamed
from fantasytalking.pipeline.progress import Progress, QuietProgress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.warm_up import warm_up

__all__ = ["StreamCalls"]


class StreamCalls:
    """Streams of `FantasyTalkingPipeline`, whose attributes it uses."""

    def warm_up(self) -> None:
        """Do now what the first video of a process would wait for: late imports, networks for faces, first calls of every part.

        A short and small video is made in one step and thrown away. Later videos are the same with it and without it.

        Raises:
            SettingsError: Several processes share the pipeline's work.
        """
        warm_up(self)

    @torch.no_grad()
    def stream(
        self,
        image: ImageSource,
        audio: AudioSource,
        settings: GenerationSettings | None = None,
        *,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> Generator[StreamedFrame]:
        """Make the portrait speak, and give each frame with its sound as soon as it is there.

        The first segment is short and the next ones are longer, so the frames differ a little from those of a call.

        Args:
            image: The portrait, as for a call.
            audio: The speech, as for a call.
            settings: A complete record; None takes the model's defaults.
            progress: Shows notes and keeps times; None: warnings for notes.
            overrides: Single settings by name.

        Yields:
            `StreamedFrame`s, as long as the speech to within a frame. Where several processes share the work, all of them iterate over the
            stream, and the first alone is given frames; where it stops early, the others' streams end, too.

        Raises:
            InputError: Image, speech or a setting cannot be used.
        """
        pipeline: Any = self
        told = checked_progress(progress, Progress if pipeline._writes else QuietProgress)
        run = Run(told, settings is not None or "sigma_shift" in overrides)
        cases, is_batch = cases_of(image, audio, settings_maker(pipeline, settings), overrides)
        if is_batch:
            raise InputError("A stream is of one portrait and one speech; call it once for each video.")
        pipeline._interrupt = False
        (case,) = cases
        with pipeline._together():
            portrait, speech = pipeline._read(case)
            case = pipeline._settle(case, portrait, speech, run, "")
        yield from streamed(pipeline, case, portrait, speech, run)
