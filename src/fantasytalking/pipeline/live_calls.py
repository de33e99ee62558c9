"""Calls of a pipeline for speech that is still being spoken."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from fantasytalking.errors import InputError, SettingsError
from fantasytalking.media.video import exact_rate
from fantasytalking.pipeline.call_arguments import cases_of, checked_progress, settings_maker
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.inputs import ImageSource
from fantasytalking.pipeline.live_options import LiveOptions
from fantasytalking.pipeline.live_session import Feeder, LiveSession
from fantasytalking.pipeline.live_speech import LiveSpeech
from fantasytalking.pipeline.live_timeline import checked_live_rate
from fantasytalking.pipeline.live_track import live_levels
from fantasytalking.pipeline.long_output import StreamedFrame
from fantasytalking.pipeline.long_video import segment_mode
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.unfinished_run import made_with
from fantasytalking.system.waiting import Clock, SystemClock

__all__ = ["LiveCalls"]


class LiveCalls:
    """Live speech of `FantasyTalkingPipeline`, whose attributes it uses."""

    def live_session(
        self,
        image: ImageSource,
        settings: GenerationSettings | None = None,
        *,
        sample_rate: int = 16000,
        pcm_format: str = "s16le",
        options: LiveOptions | None = None,
        resume: str | os.PathLike[str] | None = None,
        clock: Clock | None = None,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> LiveSession:
        """Begin a session: a portrait that says what it is given, piece by piece, from any thread.

        Args:
            image: The portrait, as for a call.
            settings: A complete record; None takes the model's defaults.
            sample_rate: Samples a second of the speech.
            pcm_format: Format of chunks of bytes: s16le, s32le or f32le.
            options: How far ahead, how soon, and whether by the clock.
            resume: File of a saved session that is to go on, of the same model, portrait, settings, options and rate.
            clock: Tells the time in place of the system's clock.
            progress: Shows notes and keeps times; None: warnings for notes.
            overrides: Single settings by name.

        Raises:
            InputError: Portrait, rate, a setting or the saved session cannot be used, the model makes its long videos of windows, or
                several processes share the pipeline's work.
        """
        pipeline: Any = self
        options = options or LiveOptions()
        rate = checked_live_rate(sample_rate)
        run = Run(checked_progress(progress, Progress), settings is not None or "sigma_shift" in overrides)
        speech_comes_later: Any = None
        cases, is_batch = cases_of(image, speech_comes_later, settings_maker(pipeline, settings), overrides)
        if is_batch:
            raise InputError("A live session is of one portrait; begin another one for each.")
        if pipeline.ranks is not None:
            raise SettingsError(
                "Live sessions are made by one process; load the pipeline without enable_parallel for them."
            )
        (case,) = cases
        if segment_mode(pipeline, case) == "windows":
            raise SettingsError(
                "Live speech needs segments that continue each other, and with long_video 'windows' all of the speech must be there first; "
                "give long_video='continue'."
            )
        pipeline._interrupt = False
        portrait = pipeline._read_portrait(case)
        fps = float(exact_rate(case.settings.fps or pipeline.rules.native_fps))
        levels = live_levels(pipeline.encoders, pipeline.rules)
        speech = LiveSpeech(rate, fps, levels, options, clock or SystemClock(), pcm_format)
        case = pipeline._settle(case, portrait, speech, run, "")
        digest = made_with(
            pipeline, case, portrait, [fps, rate, pcm_format, options.segment_seconds, options.look_ahead]
        )
        return LiveSession(pipeline, case, portrait, speech, run, digest.hexdigest(), resume)

    def live(
        self,
        image: ImageSource,
        chunks: Iterable[Any],
        settings: GenerationSettings | None = None,
        *,
        options: LiveOptions | None = None,
        **arguments: Any,
    ) -> Iterator[StreamedFrame]:
        """Let a portrait say what an iterable gives, and give each frame with its sound as soon as it is there.

        Args:
            image: The portrait, as for a call.
            chunks: Speech in chunks of any size, as `LiveSession.push` takes them; None means nothing yet. In real time they are asked
                for by a thread of their own, which may wait for them.
            settings: A complete record; None takes the model's defaults.
            options: As for `live_session`.
            arguments: The other arguments of `live_session`, and single settings by name.

        Yields:
            `StreamedFrame`s, as long as the speech to within a frame, and as long as the person rested.

        Raises:
            InputError: As for `live_session`; or a chunk is no sound.
        """
        options = options or LiveOptions()
        with self.live_session(image, settings, options=options, **arguments) as session:
            Feeder(session.speech, iter(chunks), options.real_time)
            yield from session
