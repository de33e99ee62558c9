"""The speech of several people who are seen at once: what each segment of their video hears of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fantasytalking.conditioning.conditions import AudioCondition
from fantasytalking.pipeline.encoders import Encoders
from fantasytalking.pipeline.inputs import Speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.speech_track import SpeechTrack

__all__ = ["SpeakerTracks"]


class SpeakerTracks(SpeechTrack):
    """Speech of several people, of which segments are asked for in order.

    Args:
        encoders: Encoders of the model.
        speeches: Speech of each of n people, all of one length.
        regions: Share of each video token that hears each of them [n, h, w].
        rules: Rules of the model.
    """

    def __init__(
        self, encoders: Encoders, speeches: Sequence[Speech], regions: NDArray[np.float32], rules: ModelRules
    ) -> None:
        super().__init__(encoders, speeches[0], rules)
        self._others = [SpeechTrack(encoders, speech, rules) for speech in speeches[1:]]
        self._regions = torch.from_numpy(regions)

    def levels(self, first: int, end: int) -> NDArray[np.float32]:
        """Loudness of the loudest of them at video frames, [end - first]."""
        own = super().levels(first, end)
        return np.asarray(np.max([own, *(track.levels(first, end) for track in self._others)], 0), np.float32)

    def condition(
        self, first: int, num_frames: int, scale: float, level: Literal["frame", "clip"], unheard: int = 0
    ) -> AudioCondition:
        """What a segment hears of each of them; the arguments are those of `SpeechTrack.condition`."""
        asked = first, num_frames, scale, level, unheard
        voices = [super().condition(*asked), *(track.condition(*asked) for track in self._others)]
        return AudioCondition.together(
            [
                dataclasses.replace(voice, region=region[None])
                for voice, region in zip(voices, self._regions, strict=True)
            ]
        )
