"""Several people in one picture, each with speech of their own.

A model that moves the photo makes a video of each from the same picture. Each of these moves one head and leaves everything else as in the
picture, so between the heads they are the same and can be laid beside each other with a soft seam. A model that paints whole frames makes
one video, in which each video token hears the speech of the person whom it shows.

Letters: n people, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.dub_interface import DubsMotion
from fantasytalking.errors import FaceError, SettingsError
from fantasytalking.media.audio import Audio, fit_length
from fantasytalking.media.loudness import mixed
from fantasytalking.perception.faces import Face, detect_faces
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.footage_inputs import check_chosen_once
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import AudioSource, ImageSource, Portrait, Speech, load_portraits, load_speech
from fantasytalking.pipeline.long_video import LongVideo
from fantasytalking.pipeline.portrait_face import held_back
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.speaker_regions import place_shares, token_regions
from fantasytalking.pipeline.speaker_tracks import SpeakerTracks
from fantasytalking.pipeline.talking_video import written
from fantasytalking.pipeline.written_video import WrittenVideo

__all__ = ["speak_together"]


def speak_together(
    pipeline: Any,
    image: ImageSource | Mapping[int, Portrait],
    audio: Mapping[int, AudioSource],
    settings: GenerationSettings,
    run: Run,
) -> WrittenVideo:
    """Write a video of a picture in which several people speak.

    Args:
        pipeline: The pipeline.
        image: The picture, or portraits by number of the face.
        audio: Speech by number of the face; a shorter one continues with silence.
        settings: Settings of all of them; where each has a video, each has a seed of its own, counted from this one's.
        run: What belongs to the call, with the output.

    Raises:
        InputError: Picture, speech or a setting cannot be used, or the model hears nothing.
    """
    check_chosen_once(settings)
    if not audio:
        raise SettingsError("Nobody speaks; give a speech for one face at least, such as {0: speech}.")
    pipeline._interrupt, progress = False, run.progress
    speeches = _of_one_length([load_speech(one, settings, pipeline.rules) for one in audio.values()])
    portraits = list(load_portraits(image, audio, settings, pipeline.rules).values())
    make = _laid_together if isinstance(pipeline.autoencoder, DubsMotion) else _painted_together
    frames, settings = make(pipeline, portraits, speeches, settings, run)
    fps, count = speeches[0].fps, speeches[0].video_frames
    sound = Audio(mixed([speech.soundtrack.samples for speech in speeches]), speeches[0].soundtrack.sample_rate)
    assert run.output is not None
    marks = marks_of(pipeline, settings, zip(portraits, speeches, strict=True))
    output = run.output if pipeline._writes else None
    with written(output, fps, sound, progress, marks) as write, progress.stage("generating", count) as advance:
        for frame in frames:
            if write is not None:
                write(frame)
            advance()
    height, width = portraits[0].pixels.shape[:2]
    return WrittenVideo.of(run.output.path, count, fps, (height, width), settings, progress)


Frames = Iterator[NDArray[np.uint8]]


def _laid_together(
    pipeline: Any, portraits: list[Portrait], speeches: list[Speech], settings: GenerationSettings, run: Run
) -> tuple[Frames, GenerationSettings]:
    """Frames of a video of each, each at its place, and the settings."""
    videos = []
    for number, (portrait, speech) in enumerate(zip(portraits, speeches, strict=True)):
        own = settings.replace(seed=(settings.seed + number) % 2**32)
        case = pipeline._settle(Case(portrait, speech, own), portrait, speech, run, f"Speaker {number}: ")
        # Each process takes the frames, as the videos are sampled in turn.
        videos.append(LongVideo(pipeline, case, portrait, speech, run, everywhere=True))
    height, width = portraits[0].pixels.shape[:2]
    shares = place_shares([_face(portrait) for portrait in portraits], height, width)[..., None]

    def frames() -> Frames:
        for seen in zip(*(video.each_frame() for video in videos), strict=False):
            whole = sum(share * frame for share, frame in zip(shares, seen, strict=True))
            yield np.rint(whole).astype(np.uint8)

    return frames(), settings


def _painted_together(
    pipeline: Any, portraits: list[Portrait], speeches: list[Speech], settings: GenerationSettings, run: Run
) -> tuple[Frames, GenerationSettings]:
    """Frames of one video in which each hears their own speech, and the settings that the model can follow."""
    if pipeline.transformer.config.audio_dim is None:
        raise SettingsError("This model hears no speech, so nobody can speak in its videos; use another model.")
    case = Case(portraits[0], speeches[0], settings)
    case = pipeline._settle(case, portraits[0], speeches[0], run, "Speaker 0: ")
    for number, (portrait, speech) in enumerate(zip(portraits[1:], speeches[1:], strict=True), 1):
        # A doubtful face holds back the video, as the intensities are those of the whole picture.
        has_motion = pipeline.transformer.config.motion
        settings, doubts = held_back(case.settings, pipeline.settings(), portrait.check, has_motion)
        case = dataclasses.replace(case, settings=settings)
        for note in (*portrait.notes, *speech.notes, *doubts):
            run.progress.note(f"Speaker {number}: {note}")
    if pipeline.transformer.config.identity_dim is not None and case.settings.identity_scale > 0:
        run.progress.note("The identity module knows one face, so it is off where several people are seen.")
    faces = [_face(portrait) for portrait in portraits]
    resting = [face for face in _all_faces(portraits[0]) if not any(_is_same(face, one) for one in faces)]
    # Silence, and not the absence of speech, for which the model may let a mouth do anything.
    silence = dataclasses.replace(speeches[0], samples=np.zeros_like(speeches[0].samples))
    height, width = portraits[0].pixels.shape[:2]
    track = SpeakerTracks(
        pipeline.encoders,
        [*speeches, *(silence for _ in resting)],
        token_regions([*faces, *resting], height, width),
        pipeline.rules,
    )
    shown = dataclasses.replace(portraits[0], original_face=None)
    video = LongVideo(pipeline, case, shown, speeches[0], run, track=track, everywhere=True)
    return video.each_frame(), case.settings


def _face(portrait: Portrait) -> Face:
    if portrait.face is None:
        raise FaceError("A person who is to speak has no face in the picture; use one that shows all of them.")
    return portrait.face


def _all_faces(portrait: Portrait) -> tuple[Face, ...]:
    """All faces in pixels of the video."""
    return portrait.all_faces or tuple(detect_faces(portrait.pixels))


def _is_same(face: Face, other: Face) -> bool:
    """Whether two boxes are of the same face."""
    away = np.subtract(face.points.mean(0), other.points.mean(0))
    return bool(np.hypot(*away) < other.size / 2)


def _of_one_length(speeches: list[Speech]) -> list[Speech]:
    """The speeches, each continued with silence to the length of the longest."""
    longest = max(speeches, key=lambda one: one.num_frames)
    shown = max(one.video_frames for one in speeches)
    samples, count = len(longest.samples), max(len(one.soundtrack.samples) for one in speeches)
    padded = []
    for speech in speeches:
        if speech.num_frames != longest.num_frames or len(speech.soundtrack.samples) != count:
            sound = Audio(fit_length(speech.soundtrack.samples, count), speech.soundtrack.sample_rate)
            speech = dataclasses.replace(
                speech,
                samples=fit_length(speech.samples, samples),
                soundtrack=sound,
                num_frames=longest.num_frames,
                video_frames=shown,
            )
        padded.append(speech)
    return padded
