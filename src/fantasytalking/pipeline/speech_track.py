"""The speech of a long video: what each segment hears of it, computed as the segments come.

Features are those of the speech as a whole, so a window that reaches over a seam hears what is beyond it.

Letters: n samples, t speech features, f latent frames, d width.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.conditioning.audio_windows import WINDOW_MARGIN, window_ranges
from fantasytalking.conditioning.conditions import AudioCondition
from fantasytalking.conditioning.interpolation import rows_at
from fantasytalking.conditioning.speech_features import FeatureBlocks, SpeechEncoder
from fantasytalking.geometry import AUDIO_TOKEN_RATE, Strides
from fantasytalking.pipeline.encoders import Encoders
from fantasytalking.pipeline.inputs import SPEECH_RATE, Speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.system.processes import second_thread

__all__ = ["SpeechTrack"]

_UNHEARD = 1_000_000
"""Tokens by which a window is moved to hear nothing: longer than any speech."""


class SpeechTrack:
    """The speech of one video, of which segments are asked for in order.

    Args:
        encoders: Encoders of the model.
        speech: The speech.
        rules: Rules of the model.
    """

    def __init__(self, encoders: Encoders, speech: Speech, rules: ModelRules) -> None:
        self._speech, self._encoders = speech, encoders
        self._blocks: FeatureBlocks | None = None
        self._is_native = speech.fps == rules.native_fps
        self._native_fps = rules.native_fps
        self._all_ranges: Tensor | None = None

    def levels(self, first: int, end: int) -> NDArray[np.float32]:
        """Loudness (RMS) of video frames, [end - first]."""
        edges = np.rint(np.arange(first, end + 1) / self._speech.fps * SPEECH_RATE).astype(int)
        samples = np.asarray(self._speech.samples[edges[0] : edges[-1]], np.float32)
        pieces = np.split(samples, edges[1:-1] - edges[0])
        return np.array(
            [math.sqrt(float(np.square(piece).mean())) if len(piece) else 0.0 for piece in pieces], np.float32
        )

    def condition(
        self, first: int, num_frames: int, scale: float, level: Literal["frame", "clip"], unheard: int = 0
    ) -> AudioCondition:
        """What a segment hears.

        Args:
            first: Number of its first frame, a multiple of 4.
            num_frames: Its frames, a multiple of 4 plus 1.
            scale: Weight of the audio attention.
            level: Whether each latent frame hears its own window, or all that the segment hears.
            unheard: Latent frames at its beginning that hear nothing.

        Returns:
            features [1, t, d] of the segment and what its windows hear beyond it, ranges [1, f, 2] or, at clip level, None.
        """
        blocks = self._features()
        count = self._count(blocks)
        if self._all_ranges is None:
            self._all_ranges = window_ranges(count, self._speech.num_frames)
        start, stride = first // Strides().time, Strides().latent_frames(num_frames)
        ranges = self._all_ranges[start : start + stride]
        low = max(0, int(ranges.min()) - WINDOW_MARGIN)
        high = min(count, int(ranges.max()) + WINDOW_MARGIN + 1)
        features = self._between(blocks, low, high, count)
        ranges = ranges - low
        ranges[:unheard] -= _UNHEARD
        return AudioCondition(features[None], ranges[None] if level == "frame" else None, scale=scale)

    def _features(self) -> FeatureBlocks:
        if self._blocks is None:
            encoder = SpeechEncoder(self._encoders.audio_encoder, self._encoders.audio_processor)
            self._blocks = FeatureBlocks(encoder, self._speech.samples)
        return self._blocks

    def _count(self, blocks: FeatureBlocks) -> int:
        """Number of features at the model's own frame rate."""
        if self._is_native:
            return blocks.count
        return max(1, round(self._speech.num_frames / self._native_fps * AUDIO_TOKEN_RATE))

    def begin(self) -> None:
        """Encode the beginning of the speech now, where the model hears it, and not with the first segment."""
        if self._encoders.config.audio_dim is None:
            return
        blocks = self._features()
        self._between(blocks, 0, 1, self._count(blocks))

    def _between(self, blocks: FeatureBlocks, low: int, high: int, count: int) -> Tensor:
        with second_thread():
            return self._features_between(blocks, low, high, count)

    def _features_between(self, blocks: FeatureBlocks, low: int, high: int, count: int) -> Tensor:
        if self._is_native:
            return blocks.between(low, high)
        places = (torch.arange(low, high, dtype=torch.float64) + 0.5) * (blocks.count / count) - 0.5
        first = max(0, math.floor(float(places[0])))
        last = min(blocks.count, math.ceil(float(places[-1])) + 1)
        return rows_at(blocks.between(first, last), places - first)
