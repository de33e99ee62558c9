"""Video of any length, one stretch after the other: the one mechanism behind long files, streams, and whatever else goes on.

A stretch is a segment that continues the one before (`continue`), or all of a video whose windows are fused (`windows`). Its frames are
decoded as they are taken, and are nowhere kept.

Letters: C latent channels, f latent frames, h and w latent rows and columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.autoencoder import Beginning
from fantasytalking.autoencoder.interface import PreparesDecoding, prepare_decoding
from fantasytalking.autoencoder.segment_decoder import SegmentDecoder, segment_decoder
from fantasytalking.conditioning.conditions import Conditions, replace
from fantasytalking.flow import noised
from fantasytalking.geometry import Strides
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.clip_batches import Clip, Run, reference_of
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES, encode_beginning
from fantasytalking.pipeline.encoders import encode_conditions, encode_prompts
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.live_speech import LiveSpeech
from fantasytalking.pipeline.live_track import LiveTrack
from fantasytalking.pipeline.progress import Nested
from fantasytalking.pipeline.sample_clips import sample_clips
from fantasytalking.pipeline.segments import (
    Segment,
    floor_frames,
    next_segment,
    overlap_of,
    window_starts,
    window_weights,
)
from fantasytalking.pipeline.speech_track import SpeechTrack
from fantasytalking.pipeline.window_fusion import Window
from fantasytalking.system.heap import return_free_memory

__all__ = ["FIRST_SECONDS", "LongVideo", "Stretch", "longest_segment", "segment_mode"]

PREFIX_NOISE = 0.05
"""Median noise level of given frames for models that are not trained to continue: exp(-3), as LightX2V draws it."""
PREFIX_SPREAD = 0.5
"""Standard deviation of its logarithm."""
FIRST_SECONDS = 1.0
"""Length of a stream's first segment; each of the next ones is twice as long as the one before, as far as the model goes."""
_LEAST = 25
USUAL_SECONDS = 8.0
"""Length of segments unless another one is asked for or the model's clips are shorter. Longer ones save little and start later."""


def segment_mode(pipeline: Any, case: Case) -> Literal["continue", "windows"]:
    """How a video longer than one clip is made."""
    chosen = case.settings.long_video
    mode: Literal["continue", "windows"] = pipeline.rules.long_video if chosen == "auto" else chosen
    return mode


def longest_segment(pipeline: Any, case: Case, fps: float) -> int:
    """Frames of the longest clip that is sampled at once, 4 n + 1."""
    seconds, most = case.settings.segment_seconds, int(pipeline.rules.max_frames)
    if seconds is None:
        return most
    return min(most, floor_frames(seconds * fps + 1, _LEAST))


@dataclass(frozen=True)
class Stretch:
    """A part of a video, sampled and being decoded.

    Attributes:
        number: Counted from 0.
        first: Number of its first frame in the video.
        frames: Gives its frames, uint8 [H, W, 3]; to be taken to the end before the next stretch is asked for.
    """

    number: int
    first: int
    frames: Iterator[NDArray[np.uint8]]


class LongVideo:
    """One video of any length.

    Args:
        pipeline: The pipeline.
        case: Arguments of the video, with settings that the model can follow.
        portrait: The portrait as read.
        speech: The speech as read, or speech that is still coming, whose segments are as its options say.
        run: What belongs to the call.
        is_stream: Whether the first segment is to come soon.
        decoder: Decodes the segments in place of the autoencoder's usual decoder.
        track: What the segments hear in place of the speech alone.
        everywhere: Whether all processes decode that share the work; else the first alone, and the others give no frames.

    Attributes:
        frames: Number of frames given so far.
        seams: Numbers of the frames with which segments after the first begin, as far as they are sampled; none of live speech.
        before: The segment that was sampled last; None at the beginning.
    """

    def __init__(
        self,
        pipeline: Any,
        case: Case,
        portrait: Portrait,
        speech: Speech | LiveSpeech,
        run: Run,
        is_stream: bool = False,
        decoder: SegmentDecoder | None = None,
        track: SpeechTrack | None = None,
        everywhere: bool = False,
    ) -> None:
        self._pipeline, self._case, self._speech = pipeline, case, speech
        self._nested = Nested(run.progress)
        self._run = dataclasses.replace(run, progress=self._nested)
        self._is_stream, self.mode = is_stream, segment_mode(pipeline, case)
        self._decodes = everywhere or pipeline._writes
        self.longest = longest_segment(pipeline, case, speech.fps)
        self._noise = case.generator or torch.Generator("cpu").manual_seed(case.settings.seed)
        if case.generator is not None:
            # Iterated again, the video is the same.
            self._noise = torch.Generator(case.generator.device)
            self._noise.set_state(case.generator.get_state())
        with self._nested.stage("encoding"):
            texts = encode_prompts(pipeline.encoders, case.settings, case.text.prompt, case.text.negative)
            self._reference = reference_of(portrait, case.settings, pipeline.encoders.device)
            self._track = track or _track(pipeline, speech)
            if isinstance(pipeline.autoencoder, PreparesDecoding) and not is_stream:
                # What the speech encoder needs for a moment comes before what the decoder keeps; a stream has no time for that.
                self._track.begin()
            if run.aside and self._decodes:
                prepare_decoding(pipeline.autoencoder, self._reference)
            self._conditions = encode_conditions(
                pipeline.encoders, pipeline.rules, portrait, None, case.settings, texts[0]
            )
            self._negative = texts[1]
            if is_stream:
                self._track.begin()
            self._beginning = None
            if run.previous is not None:
                self._beginning = encode_beginning(
                    run.previous, speech.video_frames, self._reference, pipeline.autoencoder
                )
        self._overlap = overlap_of(self.longest, CONTINUED_FRAMES)
        self._decoder = decoder or segment_decoder(
            pipeline.autoencoder,
            self._reference,
            self._overlap,
            continued=run.previous is not None,
            aside=run.aside,
            hold=case.settings.hold_look != "off",
            soon=isinstance(speech, LiveSpeech),
        )
        self.before: Segment | None = None
        self.frames, self.seams = 0, list[int]()

    @property
    def is_complete(self) -> bool:
        """Whether the stretch that was given last is the video's last."""
        return self.before is not None and (self.before.is_last or self._pipeline._interrupt)

    @torch.no_grad()
    def stretches(self) -> Iterator[Stretch]:
        """The stretches that are not made yet, in order."""
        if self.mode == "windows":
            yield Stretch(0, 0, self._decoded(self._fused(), 0, True))
            return
        while (self.before is None or not self.before.is_last) and not self._pipeline._is_stopped():
            segment = self._next()
            if segment is None:
                return
            latents = self._sampled(segment)
            self._enter(segment)
            # The callback of the last step may have stopped it.
            is_last = self._pipeline._is_stopped() or segment.is_last
            yield Stretch(segment.number, self.frames, self._decoded(latents, segment.given, is_last))

    def each_frame(self) -> Iterator[NDArray[np.uint8]]:
        """The frames of all of them, uint8 [H, W, 3] each."""
        for stretch in self.stretches():
            yield from stretch.frames

    def _enter(self, segment: Segment | None) -> None:
        assert segment is not None
        self.before = segment
        if segment.given and not isinstance(self._speech, LiveSpeech):
            self.seams.append(segment.start + segment.given)

    @torch.no_grad()
    def _decoded(self, latents: Tensor, given: int, is_last: bool) -> Iterator[NDArray[np.uint8]]:
        """Frames of a stretch without those behind the end of the speech; none where other processes decode."""
        if not self._decodes:
            return
        frames = self._decoder.decode(latents, given, is_last)
        # What lies behind the end is decoded all the same, so that the decoder is through with it.
        with self._nested.stage("decoding"):
            for frame in frames:
                if self.frames < self._speech.video_frames:
                    self.frames += 1
                    yield frame

    def _next(self) -> Segment | None:
        if isinstance(self._speech, LiveSpeech):
            return self._speech.next_segment(self.before, self._overlap, self._decoder.held_back, self.longest)
        assert isinstance(self._track, SpeechTrack)
        fps, longest = self._speech.fps, self.longest
        if self._case.settings.segment_seconds is None:
            longest = min(longest, floor_frames(USUAL_SECONDS * fps + 1))
        if self._is_stream:
            number = 0 if self.before is None else self.before.number + 1
            longest = min(longest, floor_frames(FIRST_SECONDS * 2**number * fps + 1, _LEAST))
        return next_segment(self.before, self._speech.num_frames, longest, self._overlap, self._track.levels)

    def _sampled(self, segment: Segment) -> Tensor:
        """Latents [1, C, f, h, w] of a segment."""
        autoencoder = self._pipeline.autoencoder
        with self._pipeline._together(), self._nested.stage("encoding"):
            beginning = self._beginning if self.before is None else self._next_beginning()
            given = 0 if self.before is None else Strides().latent_frames(segment.given)
            conditions = self._heard(segment, 0 if self._hears_anchors() else given)
            image_latents = autoencoder.condition(self._reference, segment.num_frames, beginning)
            if given:
                image_latents = self._with_noise(image_latents, given)
            return_free_memory()
        shape = autoencoder.latent_shape(segment.num_frames, *self._reference.images.shape[-2:])
        clip = self._clip(conditions, image_latents, shape, beginning)
        noise = self._drawn(shape)
        return sample_clips(self._pipeline, [clip], noise, self._run, segment.start)[0]

    def _next_beginning(self) -> Beginning:
        """What the next segment begins with: of several processes, what the first has decoded."""
        ranks = self._pipeline.ranks
        if ranks is None:
            return self._decoder.beginning()

        def made() -> tuple[Tensor, Tensor]:
            beginning = self._decoder.beginning()
            return beginning.frames.cpu(), beginning.latents.cpu()

        device = self._reference.images.device
        frames, latents = ranks.of_first(made)
        return Beginning(frames.to(device), latents.to(device))

    def _hears_anchors(self) -> bool:
        chosen = self._case.settings.anchor_audio
        return self._pipeline.rules.long_video == "continue" if chosen == "auto" else chosen == "on"

    def _heard(self, segment: Segment, unheard: int) -> Conditions:
        settings, encoders = self._case.settings, self._pipeline.encoders
        if encoders.config.audio_dim is None:
            return self._conditions
        audio = self._track.condition(
            segment.start, segment.num_frames, settings.audio_scale, settings.audio_level, unheard
        )
        return replace(self._conditions, audio=audio).to(encoders.device, encoders.dtype)

    def _with_noise(self, image_latents: Tensor, given: int) -> Tensor:
        """Image latents whose given frames are noised a little, so that the model does not copy their faults."""
        level = self._case.settings.prefix_noise
        if level is None:
            level = 0.0 if self._pipeline.rules.long_video == "continue" else PREFIX_NOISE
        if level == 0:
            return image_latents
        mask = Strides().time
        known = image_latents[:, mask:, :given].float()
        drawn = level * float(torch.exp(PREFIX_SPREAD * self._drawn(()))[0])
        sigma = torch.full((len(known),), min(drawn, 1.0), device=known.device)
        result = image_latents.clone()
        result[:, mask:, :given] = noised(known, self._drawn(known.shape[1:]).to(known), sigma).to(result)
        return result

    def _drawn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(1, *shape, generator=self._noise, device=self._noise.device)

    def _clip(
        self,
        conditions: Conditions,
        image_latents: Tensor,
        shape: tuple[int, int, int, int],
        beginning: Beginning | None,
    ) -> Clip:
        # Its frames are taken from the decoder here, so nobody asks it for the length of its speech.
        speech = cast(Speech, self._speech)
        return Clip(self._case, speech, self._reference, conditions, self._negative, image_latents, shape, beginning)

    def _fused(self) -> Tensor:
        """Latents [1, C, f, h, w] of the whole video, of fused windows."""
        pipeline, settings, strides = self._pipeline, self._case.settings, Strides()
        autoencoder, total = pipeline.autoencoder, strides.latent_frames(self._speech.num_frames)
        longest = min(total, strides.latent_frames(self.longest))
        shared = longest // (2 if settings.window_weights == "pyramid" else 4)
        starts = window_starts(total, longest, max(1, shared))
        weights = window_weights(settings.window_weights, starts, longest, total)
        num_frames = strides.num_frames(longest)
        with pipeline._together(), self._nested.stage("encoding"):
            heard = [
                self._heard(Segment(number, start * strides.time, num_frames, 0, False), 0)
                for number, start in enumerate(starts)
            ]
            image_latents = autoencoder.condition(self._reference, num_frames)
            first = autoencoder.condition(self._reference, num_frames, self._beginning) if self._beginning else None
        windows = [
            Window(start, torch.from_numpy(row), one.audio, None if start else first)
            for start, row, one in zip(starts, weights, heard, strict=True)
        ]
        shape = autoencoder.latent_shape(self._speech.num_frames, *self._reference.images.shape[-2:])
        clip = self._clip(heard[0], image_latents, shape, self._beginning)
        return sample_clips(pipeline, [clip], self._drawn(shape), self._run, windows=windows)[0]

    def state(self) -> dict[str, Tensor]:
        """What the next segments depend on, once the frames of a stretch have been taken."""
        # Numbers of a segment before the first one.
        places = (-1, 0, 0, 0, 0) if self.before is None else dataclasses.astuple(self.before)
        numbers = torch.tensor([self.frames, *map(int, places)])
        decoder = {f"decoder.{name}": value for name, value in self._decoder.state().items()}
        return {"segment": numbers, "generator": self._noise.get_state(), **decoder}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a stored state."""
        self.frames, number, start, num_frames, given, is_last = state["segment"].tolist()
        if isinstance(self._speech, LiveSpeech):
            self.before = None if number < 0 else Segment(number, start, num_frames, given, bool(is_last))
        else:
            # for the seams
            for _ in range(number + 1):
                self._enter(self._next())
        self._noise.set_state(state["generator"])
        prefix = "decoder."
        self._decoder.restore({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})


def _track(pipeline: Any, speech: Speech | LiveSpeech) -> SpeechTrack | LiveTrack:
    if isinstance(speech, LiveSpeech):
        return LiveTrack(pipeline.encoders, speech, pipeline.rules)
    return SpeechTrack(pipeline.encoders, speech, pipeline.rules)
