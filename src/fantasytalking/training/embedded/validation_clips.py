"""Videos of validation clips that are made while the embedded model is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.media.audio import Audio
from fantasytalking.training.embedded.export_model import embedded_pipeline
from fantasytalking.training.embedded.training_tracks import SPEECH_ENCODER, TRUSTED, Footage
from fantasytalking.training.trainer.validation_videos import ValidationVideos

__all__ = ["show_validation"]

SHOWN_CLIPS = 2
SHOWN_SECONDS = 4.0


def show_validation(
    footage: Footage, painter: MouthPainter, measure_video: Callable[[Path], Mapping[str, float]] | None = None
) -> ValidationVideos | None:
    """Make validation videos: first frame and first seconds of speech of a few validation clips; None if there are none."""
    clips = {}
    real = [t for t in footage.material.val if t.kind == TRUSTED] or footage.material.val
    for track in real[:SHOWN_CLIPS]:
        sound = footage.sound(track)
        samples = sound.samples[: round(SHOWN_SECONDS * sound.sample_rate)]
        portrait = footage.frames(track, track.first + 1)[track.first]
        clips[Path(track.name).stem] = (portrait, Audio(samples, sound.sample_rate))
    if not clips:
        return None
    codec = footage.material.codec
    return ValidationVideos(
        lambda model: embedded_pipeline(model, codec, painter, SPEECH_ENCODER), clips, measure=measure_video
    )
