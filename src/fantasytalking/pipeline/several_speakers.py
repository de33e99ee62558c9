"""Several people in one picture, each with speech of their own: a video of each, made from the same picture, put together by place.

Each of these videos moves one head and leaves everything else as in the picture, so between the heads they are the same and can be laid
beside each other with a soft seam. That needs a model that moves the photo; one that paints whole frames would paint the others, too.

Letters: n people, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fantasytalking.autoencoder.displacement import smoothstep
from fantasytalking.autoencoder.dub_interface import DubsMotion
from fantasytalking.errors import FaceError, SettingsError
from fantasytalking.media.audio import Audio, fit_length
from fantasytalking.media.loudness import mixed
from fantasytalking.pipeline.call_arguments import Case
from fantasytalking.pipeline.clip_batches import Run
from fantasytalking.pipeline.footage_inputs import check_chosen_once
from fantasytalking.pipeline.generation_marks import marks_of
from fantasytalking.pipeline.inputs import AudioSource, ImageSource, Portrait, Speech, load_portrait, load_speech
from fantasytalking.pipeline.long_video import LongVideo
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.pipeline.talking_video import written
from fantasytalking.pipeline.written_video import WrittenVideo

__all__ = ["place_weights", "speak_together"]

SEAM = 0.5
"""Width of the seam between two people, in sizes of their faces."""


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
        settings: Settings of all of them; each has a seed of its own, counted from this one's.
        run: What belongs to the call, with the output.

    Raises:
        InputError: Picture, speech or a setting cannot be used, or the model paints whole frames.
    """
    if not isinstance(pipeline.autoencoder, DubsMotion):
        raise SettingsError(
            "This model paints whole frames, so one person at a time speaks in a picture; give one --audio and choose with --face, or use "
            "the embedded model."
        )
    check_chosen_once(settings)
    pipeline._interrupt, progress = False, run.progress
    speeches = _of_one_length(
        [load_speech(one, settings, pipeline.rules) for one in audio.values()], settings, pipeline
    )
    portraits = [
        load_portrait(
            image[face] if isinstance(image, Mapping) else image, settings.replace(face=face), pipeline.rules, True
        )
        for face in audio
    ]
    videos = []
    for number, (portrait, speech) in enumerate(zip(portraits, speeches, strict=True)):
        own = settings.replace(seed=(settings.seed + number) % 2**32)
        case = pipeline._settle(Case(portrait, speech, own), portrait, speech, run, f"Speaker {number}: ")
        videos.append(LongVideo(pipeline, case, portrait, speech, run))
    weights = place_weights(portraits)
    fps, count = speeches[0].fps, speeches[0].video_frames
    sound = Audio(mixed([speech.soundtrack.samples for speech in speeches]), speeches[0].soundtrack.sample_rate)
    assert run.output is not None
    marks = marks_of(pipeline, settings, zip(portraits, speeches, strict=True))
    with written(run.output, fps, sound, progress, marks) as write, progress.stage("generating", count) as advance:
        assert write is not None
        for frames in zip(*(video.each_frame() for video in videos), strict=False):
            whole = sum(weight * frame for weight, frame in zip(weights, frames, strict=True))
            write(np.rint(whole).astype(np.uint8))
            advance()
    height, width = portraits[0].pixels.shape[:2]
    return WrittenVideo.of(run.output.path, count, fps, (height, width), settings, progress)


def place_weights(portraits: list[Portrait]) -> NDArray[np.float32]:
    """Share of each person's video at each place [n, H, W, 1]: 1 at their own face, 0 at the others'.

    Raises:
        FaceError: A face is missing.
    """
    height, width = portraits[0].pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = []
    for portrait in portraits:
        if portrait.face is None:
            raise FaceError("A person who is to speak has no face in the picture; use one that shows all of them.")
        x0, y0, x1, y1 = portrait.face.box
        away.append(np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2) / portrait.face.size)
    shares = []
    for number, own in enumerate(away):
        nearest = (
            np.min([other for index, other in enumerate(away) if index != number], 0) if len(away) > 1 else own + 9
        )
        shares.append(smoothstep(0.5 + (nearest - own) / (2 * SEAM)))
    stacked = np.stack(shares)[..., None]
    return np.asarray(stacked / stacked.sum(0), np.float32)


def _of_one_length(speeches: list[Speech], settings: GenerationSettings, pipeline: Any) -> list[Speech]:
    longest = max(len(speech.soundtrack.samples) for speech in speeches)
    padded = []
    for speech in speeches:
        rate = speech.soundtrack.sample_rate
        whole = Audio(fit_length(speech.soundtrack.samples, longest), rate)
        padded.append(dataclasses.replace(load_speech(whole, settings, pipeline.rules), notes=speech.notes))
    return padded
