"""The sound track of a video that is being written: AAC of one rate, given in step with the picture.

Dimensions: n samples.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt
import soxr

from fantasytalking.media.audio import Audio, fit_length
from fantasytalking.media.python_inputs import audio_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

__all__ = ["SOUND_RATE", "SoundTrack", "checked_sound"]

SOUND_RATE = 48000
"""Samples a second: one rate for every sound, which all players know."""


def checked_sound(audio: Audio) -> Audio:
    """Sound at the rate of the track.

    Args:
        audio: Sound of any number type; samples that lie in a file stay there if they have the track's rate.
    """
    if isinstance(audio, Audio) and isinstance(audio.samples, np.memmap) and audio.sample_rate == SOUND_RATE:
        return audio
    audio = Audio(*audio_of((audio.samples, audio.sample_rate) if isinstance(audio, Audio) else audio))
    if audio.sample_rate == SOUND_RATE:
        return audio
    return Audio(soxr.resample(audio.samples, audio.sample_rate, SOUND_RATE), SOUND_RATE)


class SoundTrack:
    """A track of an open container.

    Args:
        container: The container; the track is added to it.
        bitrate: Bits a second.
    """

    def __init__(self, container: OutputContainer, bitrate: int = 128_000) -> None:
        self._container = container
        self._track: AudioStream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        self._track.codec_context.bit_rate = bitrate
        self._written = 0

    def write_until(self, seconds: Fraction, audio: Audio) -> None:
        """Write a sound, which begins with the video, up to a time; behind its end is silence.

        Args:
            seconds: Up to where.
            audio: From `checked_sound`.
        """
        end = round(seconds * SOUND_RATE)
        self.write(fit_length(audio.samples[self._written : end], end - self._written))

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        """Write the next samples, float [n] at `SOUND_RATE`."""
        if not len(samples):
            return
        piece = np.clip(np.asarray(samples, np.float32), -1.0, 1.0)
        frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
        frame.sample_rate = SOUND_RATE
        frame.time_base = Fraction(1, SOUND_RATE)
        frame.pts = self._written
        self._written += len(piece)
        self._container.mux(self._track.encode(frame))

    def finish(self) -> None:
        """Write what the encoder has held back."""
        self._container.mux(self._track.encode(None))
