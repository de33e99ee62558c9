"""Dubbing: new speech over existing footage. The head, the scene and all outside the mouth's area stay as filmed.

Two passes over the file: one follows the face, one makes the frames and writes them. Between them the clip is sampled from the speech.
The result has the footage's size, frame rate and length, whatever the speech's length.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fantasytalking.acceleration.apply_plan import memory_released
from fantasytalking.autoencoder.dub_interface import Dubber, DubsMotion, FilmedFace
from fantasytalking.autoencoder.dubbed_face import DubbedFace
from fantasytalking.media.audio import Audio, fit_length, load_audio
from fantasytalking.media.loudness import mixed
from fantasytalking.pipeline.call_arguments import Case, checked_progress, settings_maker
from fantasytalking.pipeline.clip_batches import Run, reference_of
from fantasytalking.pipeline.continued_video import CONTINUED_FRAMES
from fantasytalking.pipeline.face_in_footage import OpenedFootage
from fantasytalking.pipeline.footage_inputs import Footage, FootageSource, Speaker, SpeechSource, load_speakers
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import AudioSource, ImageSource, Portrait, Speech
from fantasytalking.pipeline.kept_footage import encode_footage
from fantasytalking.pipeline.long_video import LongVideo, longest_segment
from fantasytalking.pipeline.progress import Progress
from fantasytalking.pipeline.segments import overlap_of
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.several_speakers import speak_together
from fantasytalking.pipeline.talking_video import VideoOutput, written
from fantasytalking.pipeline.written_video import WrittenVideo

__all__ = ["Dubbing"]

CRF = 15
"""Of H.264: what is kept of the footage shall look as filmed, and at 17 the hardest clip measured has 40.0 dB with the watermark."""


class Dubbing:
    """The pipeline's side of dubbing."""

    @torch.no_grad()
    def dub(
        self,
        video: FootageSource,
        audio: SpeechSource,
        output: str | os.PathLike[str] | VideoOutput,
        settings: GenerationSettings | None = None,
        *,
        progress: Progress | None = None,
        generator: torch.Generator | None = None,
        **overrides: Any,
    ) -> WrittenVideo:
        """Write existing footage with new speech: the face in it speaks, and everything else stays as filmed.

        Args:
            video: The footage: a video file, or a `Footage` that was read before.
            audio: The speech, as a call of the pipeline takes it, or {face: speech} where several people speak. What is longer than the
                footage is left out, with a note.
            output: File to write, which must not exist yet unless a `VideoOutput` says otherwise.
            settings: A complete record; None takes the model's defaults.
            progress: Shows stages and notes; None: progress bars where stderr is a terminal, else warnings for notes.
            generator: Where the noise comes from, in place of a seed.
            overrides: Single settings by name, such as `face=1` or `dub_volume=0.2`.

        Returns:
            What was written. After any error, and after Ctrl-C, there is no file.

        Raises:
            InputError: Footage, speech or a setting cannot be used.
            OutputError: The output cannot be written.
        """
        pipeline: Any = self
        with pipeline._together():
            run, chosen = _call(pipeline, output, settings, progress, overrides)
            if generator is not None:
                chosen = chosen.replace(seed=generator.initial_seed() % 2**32)
            speakers = load_speakers(video, audio, chosen, pipeline.rules, run.progress)
        with memory_released(pipeline), pipeline._together():
            return _dub(pipeline, speakers, Case("", "", chosen, generator), run)

    @torch.no_grad()
    def speak_together(
        self,
        image: ImageSource | Mapping[int, Portrait],
        audio: Mapping[int, AudioSource],
        output: str | os.PathLike[str] | VideoOutput,
        settings: GenerationSettings | None = None,
        *,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> WrittenVideo:
        """Write a video of a picture in which several people speak, each with speech of their own; who has none stays still.

        Args:
            image: The picture, or portraits that were read before, by number of the face.
            audio: {face: speech}, faces counted from 0 by size. The video is as long as the longest; who is through first rests, as do all
                others whose face is seen.
            output: As for `dub`.
            settings: A complete record; None takes the model's defaults.
            progress: As for `dub`.
            overrides: Single settings by name.

        Raises:
            InputError: Picture, speech or a setting cannot be used.
            OutputError: The output cannot be written.
        """
        pipeline: Any = self
        with memory_released(pipeline), pipeline._together():
            run, chosen = _call(pipeline, output, settings, progress, overrides)
            return speak_together(pipeline, image, audio, chosen, run)


def _call(
    pipeline: Any,
    output: str | os.PathLike[str] | VideoOutput,
    settings: GenerationSettings | None,
    progress: Progress | None,
    overrides: dict[str, Any],
) -> tuple[Run, GenerationSettings]:
    """What belongs to a call, and its settings."""
    chosen = settings_maker(pipeline, settings)(**overrides)
    told = checked_progress(progress, pipeline._usual_progress)
    # What is kept of the footage shall look as filmed.
    target = dataclasses.replace(VideoOutput.of(output), crf=CRF, preset="medium")
    return Run(told, "sigma_shift" in overrides or settings is not None, output=target), chosen


def _dub(pipeline: Any, speakers: Sequence[Speaker], case: Case, run: Run) -> WrittenVideo:
    pipeline._interrupt, progress, video = False, run.progress, speakers[0].footage.video
    assert run.output is not None
    dubbers = [
        _dubber(pipeline, speaker, case, run, f"Speaker {number}: " if len(speakers) > 1 else "")
        for number, speaker in enumerate(speakers)
    ]
    sound = _sound(video, [speaker.speech for speaker in speakers], case.settings.dub_volume)
    inputs = [(speaker.footage.resting, speaker.speech) for speaker in speakers]
    marks = marks_of(pipeline, case.settings, inputs, [video.path])
    output = run.output if pipeline._writes else None
    size = video.height, video.width
    made = run.output.path, video.frames, float(video.rate), size, case.settings, progress
    with (
        written(output, video.rate, sound, progress, marks) as write,
        progress.stage("dubbing", video.frames) as advance,
    ):
        if write is None:
            _take_part(dubbers, video.frames)
            return WrittenVideo.of(*made)
        for index, filmed in enumerate(video):
            frame = filmed
            for dubber in dubbers:
                frame = dubber(index, frame)
            write(frame)
            advance()
    return WrittenVideo.of(*made)


def _take_part(dubbers: Sequence[Dubber], frames: int) -> None:
    """Sample with the process that writes, in the order in which it needs the faces; nothing is written here."""
    for index in range(frames):
        for dubber in dubbers:
            if isinstance(dubber, DubbedFace):
                dubber.go_on(index)


def _dubber(pipeline: Any, speaker: Speaker, case: Case, run: Run, whose: str) -> Dubber:
    """What makes the frames of one speaker: moves the filmed face as the speech says, or lays a painted one over it."""
    footage, speech, moves = speaker.footage, speaker.speech, isinstance(pipeline.autoencoder, DubsMotion)
    portrait = footage.resting
    if not moves:
        # Who speaks is seen best in the resting frame; the video begins with the first.
        portrait = dataclasses.replace(footage.first, original=portrait.original, original_face=portrait.original_face)
    for note in footage.face.notes:
        run.progress.note(whose + note)
    case = pipeline._settle(dataclasses.replace(case, image=portrait, audio=speech), portrait, speech, run, whose)
    for note in _without_effect(pipeline, case.settings, moves, footage, speech):
        run.progress.note(whose + note)
    autoencoder, settings, rate = pipeline.autoencoder, case.settings, float(footage.video.rate)
    face = FilmedFace(footage.face.meshes, footage.face.shares, rate, footage.video.frame, settings.dub_area)
    if isinstance(autoencoder, DubsMotion):
        reference = reference_of(portrait, settings, pipeline.encoders.device)
        longest = longest_segment(pipeline, case, speech.fps)
        decoder = autoencoder.motion_decoder(reference, overlap_of(longest, CONTINUED_FRAMES))
        video = LongVideo(pipeline, case, portrait, speech, run, decoder=decoder)
        for _ in video.each_frame():
            pass
        if not pipeline._writes:
            return lambda index, frame: frame
        with run.progress.stage("looking at the mouth"):
            return decoder.dubber(face, speech.video_frames, speech.fps)
    with run.progress.stage("encoding"):
        reference = reference_of(portrait, settings, pipeline.encoders.device)
        kept = encode_footage(
            autoencoder, footage, reference, speech.num_frames, speech.fps, settings.dub_area, settings.dub_strength
        )
    # Each process takes the frames when they are needed: of several speakers, the videos are sampled in turn.
    video = LongVideo(pipeline, case, portrait, speech, dataclasses.replace(run, kept=kept), everywhere=True)
    return DubbedFace(video.each_frame(), speech.video_frames, speech.fps, face)


def _sound(video: OpenedFootage, speeches: Sequence[Speech], volume: float) -> Audio:
    """The new speech, continued with silence to the footage's length, over the footage's own sound if that is wanted."""
    rate = speeches[0].soundtrack.sample_rate
    count = round(video.seconds * rate)
    tracks = [fit_length(speech.soundtrack.samples, count) for speech in speeches]
    if volume > 0 and video.has_sound:
        own = load_audio(video.path, rate, min_seconds=0.0, allow_silent=True)
        tracks.append(volume * fit_length(own.samples, count))
    return Audio(mixed(tracks), rate)


def _without_effect(
    pipeline: Any, settings: GenerationSettings, moves: bool, footage: Footage, speech: Speech
) -> list[str]:
    """A sentence for each thing that does not come as one may expect."""
    usual = pipeline.settings()
    notes = [
        f"This model moves mouth and chin of the filmed face, so {name} has no effect."
        for name in ("dub_area", "dub_strength")
        if moves and getattr(settings, name) != getattr(usual, name)
    ]
    if settings.dub_volume > 0 and not footage.video.has_sound:
        notes.append("The footage has no sound, so dub_volume has no effect.")
    if moves and settings.longest_side is not None:
        notes.append("Footage keeps its size, so longest_side has no effect with this model.")
    if settings.fps is not None:
        notes.append("Footage keeps its frame rate, so the video does not have that of fps.")
    left = footage.video.seconds - speech.video_frames / speech.fps
    if left > 0.5:
        then = "the mouth rests" if moves else "the face stays as filmed"
        notes.append(f"The speech ends {left:.1f} s before the footage; from there on {then}, and there is no speech.")
    return notes
