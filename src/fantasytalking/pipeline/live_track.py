"""What the segments of live speech hear of it: features of the last seconds, encoded anew for each segment.

Letters: t speech features, f latent frames, d width.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fantasytalking.conditioning.audio_windows import WINDOW_MARGIN, ranges_between
from fantasytalking.conditioning.conditions import AudioCondition
from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.conditioning.speech_features import SAMPLES_PER_TOKEN, RecentSpeech, SpeechEncoder
from fantasytalking.geometry import AUDIO_TOKEN_RATE, Strides
from fantasytalking.media.loudness import PEAK
from fantasytalking.media.running_level import RunningLevel, speech_rule, unit_rule
from fantasytalking.pipeline.encoders import Encoders
from fantasytalking.pipeline.live_speech import CONTEXT_SECONDS, LiveSpeech
from fantasytalking.pipeline.model_rules import ModelRules

__all__ = ["LiveTrack", "live_levels"]

_UNHEARD = 1_000_000
"""Tokens by which a window is moved to hear nothing: longer than any context."""


def live_levels(encoders: Encoders, rules: ModelRules) -> tuple[RunningLevel, ...]:
    """What speech passes through before it is encoded: the level that the model wants, and the speech encoder's normalisation."""
    levels = []
    if rules.speech_level is not None:
        levels.append(RunningLevel(speech_rule(rules.speech_level), PEAK))
    if encoders.audio_encoder is not None:
        encoder = SpeechEncoder(encoders.audio_encoder, encoders.audio_processor)
        if encoder.normalises_level:
            levels.append(RunningLevel(unit_rule))
    return tuple(levels)


class LiveTrack:
    """The speech of a live session, in place of `SpeechTrack`.

    Args:
        encoders: Encoders of the model.
        speech: The speech.
        rules: Rules of the model.
    """

    def __init__(self, encoders: Encoders, speech: LiveSpeech, rules: ModelRules) -> None:
        self._speech = speech
        self._native_fps = rules.native_fps
        self._recent: RecentSpeech | None = None
        if encoders.audio_encoder is not None:
            encoder = SpeechEncoder(encoders.audio_encoder, encoders.audio_processor)
            self._recent = RecentSpeech(encoder, CONTEXT_SECONDS)

    def begin(self) -> None:
        """Nothing, as nobody knows yet how the speech begins; see `SpeechTrack.begin`."""

    def condition(
        self, first: int, num_frames: int, scale: float, level: Literal["frame", "clip"], unheard: int = 0
    ) -> AudioCondition:
        """What a segment hears; see `SpeechTrack.condition`."""
        assert self._recent is not None
        features, start = self._features(first + num_frames)
        end = start + len(features)
        strides = Strides()
        latent = first // strides.time
        ranges = ranges_between(AUDIO_TOKEN_RATE / self._native_fps, latent, latent + strides.latent_frames(num_frames))
        low = max(start, int(ranges.min()) - WINDOW_MARGIN)
        high = max(low + 1, min(end, int(ranges.max()) + WINDOW_MARGIN + 1))
        ranges = ranges - low
        ranges[:unheard] -= _UNHEARD
        heard = features[low - start : high - start]
        return AudioCondition(heard[None], ranges[None] if level == "frame" else None, scale=scale)

    def _features(self, end: int) -> tuple[Tensor, int]:
        """Features [t, d] at the model's own frame rate of the last seconds before a frame and of the look-ahead; number of the first."""
        assert self._recent is not None
        last = self._speech.heard_until(end)
        # On the grid of features, so that each means the same moment whatever the context.
        count = last // SAMPLES_PER_TOKEN
        start = max(0, count - round(CONTEXT_SECONDS * AUDIO_TOKEN_RATE))
        heard = self._speech.timeline.heard.between(start * SAMPLES_PER_TOKEN, count * SAMPLES_PER_TOKEN)
        features = self._recent.encode(np.ascontiguousarray(heard))
        ratio = self._native_fps / self._speech.fps
        if ratio == 1:
            return features, start
        # Features of the model's frame rate: as many to a frame as there are at that rate.
        first, stop = math.ceil(start / ratio), math.floor((start + len(features)) / ratio)
        places = (torch.arange(first, stop, dtype=torch.float64) + 0.5) * ratio - 0.5 - start
        return rows_at(features, places), first
