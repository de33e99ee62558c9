"""One span to one prepared clip: all stages in order, each of which may drop it. What is cheap to find out comes first."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.face_tracks import mean_embedding
from fantasytalking.data.preparation.captions import caption_of
from fantasytalking.data.preparation.check_sync import check_sync, trim_for
from fantasytalking.data.preparation.clip_latents import LatentEncoder
from fantasytalking.data.preparation.clip_records import ClipSpan, Dropped, PreparedClip, Refusal, StageClock
from fantasytalking.data.preparation.detect_speech import check_speech
from fantasytalking.data.preparation.follow_face import follow_face
from fantasytalking.data.preparation.measure_motion import BodyTrack, find_joints, raw_motion
from fantasytalking.data.preparation.model_requirements import PreparationModel
from fantasytalking.data.preparation.portrait_crop import crop_frames, plan_crop
from fantasytalking.data.preparation.preparation_settings import PreparationSettings
from fantasytalking.data.preparation.read_span import SpanReader
from fantasytalking.errors import (
    CheckpointError,
    InputError,
    MissingDependencyError,
    OutputError,
    SettingsError,
    VideoError,
)
from fantasytalking.media.encoding import flac_bytes, jpeg_bytes, mp4_bytes
from fantasytalking.perception.landmarks import lip_mask
from fantasytalking.system.processes import threads

__all__ = ["ClipPreparer"]

# wrong with the run and not with the clip
_OF_THE_RUN = (CheckpointError, MissingDependencyError, OutputError, SettingsError)
_LIP_MARGIN = 0.1


@dataclass
class _Material:
    """A clip on its way: pictures and mesh of the crop, and the sound that belongs to them.

    Attributes:
        frames: uint8 [F, H, W, 3].
        points, scores: mesh [F, 468, 3] in pixels of `frames`, and its presence [F].
        samples: [n] at 16 kHz, as long as the frames.
    """

    frames: NDArray[np.uint8]
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    samples: NDArray[np.float32]


class ClipPreparer:
    """Prepares clips; the networks are loaded at first use, once for each object.

    Args:
        settings: of the whole run.

    Raises:
        CheckpointError: there is no such model.
    """

    def __init__(self, settings: PreparationSettings) -> None:
        self.settings = settings

    @functools.cached_property
    def model(self) -> PreparationModel:
        """The model that the set is made for."""
        return PreparationModel(self.settings.model, self.settings.latents, self.settings.device)

    def __call__(self, span: ClipSpan, clock: StageClock) -> PreparedClip | Dropped:
        """Prepare one span; the same span gives the same bytes. Whatever is wrong with the clip ends in `Dropped`.

        Raises:
            CheckpointError, MissingDependencyError, SettingsError, OutputError: wrong with the run, such as a model or a package that
                the settings ask for and that cannot be loaded.
        """
        row: dict[str, Any] = {"seconds": round(span.seconds, 3)}
        # sums in another order would give other last digits on a machine with other cores
        with threads(1):
            try:
                return self._prepare(span, row, clock)
            except Refusal as refusal:
                return Dropped(span, refusal.reason, refusal.detail, {**row, **refusal.row})
            except _OF_THE_RUN:
                raise
            except InputError as error:
                return Dropped(span, "unreadable", str(error), row)

    def _prepare(self, span: ClipSpan, row: dict[str, Any], clock: StageClock) -> PreparedClip:
        material = self._read(span, row, clock)
        with clock.stage("sync"):
            material = self._in_step(material, row)
        with clock.stage("motion"):
            height, width = material.frames.shape[1:3]
            track = find_joints(material.frames, self.model.fps, self.settings)
            motion, row["body_source"] = raw_motion(material.points, material.scores, track, height, width)
            row["w_face"], row["w_body"] = (float(f"{value:.6g}") for value in motion)
        with clock.stage("identity"):
            embedding = mean_embedding(material.frames, backend=self.model.face_backend)
        row["caption"] = caption_of(span.video, self.settings)
        with clock.stage("encoders"):
            tensors = {
                "points": torch.from_numpy(material.points),
                "scores": torch.from_numpy(material.scores),
                "joints": torch.from_numpy(track.joints).half(),
                "speech": torch.from_numpy(self.model.speech_features(material.samples)).half(),
                "embedding": torch.from_numpy(embedding),
                "motion": torch.from_numpy(motion),
            }
        if self.model.encodes_latents:
            with clock.stage("latents"):
                tensors |= self._latents(material, track, row["caption"])
                # what a data set needs to put clips of one size together, without reading their arrays
                row["latent_size"] = list(tensors["latents.0"].shape[1:])
        with clock.stage("writing"):
            files = {
                "mp4": mp4_bytes(material.frames, self.model.fps, self.settings.quality),
                "flac": flac_bytes(material.samples, SAMPLE_RATE),
                "jpg": jpeg_bytes(material.frames[0]),
                "safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()}),
            }
        return PreparedClip(span, row, files)

    def _read(self, span: ClipSpan, row: dict[str, Any], clock: StageClock) -> _Material:
        """Everything that is read from the file: sound, then pictures."""
        reader = SpanReader(span, self.model.fps)
        with clock.stage("reading"):
            samples = reader.sound()
        with clock.stage("speech"):
            row |= check_speech(samples, self.settings)
        with clock.stage("faces"):
            pictures = reader.kept()
            face = follow_face(pictures, self.model.fps, self.settings)
            row |= face.row
        with clock.stage("crop"):
            side = self.settings.max_side or self.model.longest_side
            crop = plan_crop(face, self.settings, side, self.model.multiple)
            frames = crop_frames(pictures, crop, len(face.points))
        if len(frames) < len(face.points):
            raise VideoError(
                f"The video '{span.video.path}' gave fewer frames when it was read again; give another copy."
            )
        row["crop"] = list(asdict(crop).values())[:4]
        length = round(len(frames) / self.model.fps * SAMPLE_RATE)
        return _Material(frames, crop.move(face.points), face.scores, samples[:length])

    def _in_step(self, material: _Material, row: dict[str, Any]) -> _Material:
        """Lips and speech in step, the ends cut where one of them had to be moved."""
        fps = self.model.fps
        verdict = check_sync(material.frames, material.points, material.scores, material.samples, fps, self.settings)
        row |= verdict.row
        trim = trim_for(verdict.shift, len(material.frames), fps)
        row |= {"sync_shift": verdict.shift, "frames": trim.count, "fps": fps, "seconds": round(trim.count / fps, 3)}
        row |= {"height": material.frames.shape[1], "width": material.frames.shape[2]}
        if row["seconds"] < self.settings.min_seconds - 1e-3:
            detail = f"{row['seconds']:.2f} s are left in step; at least {self.settings.min_seconds:g} s are needed."
            raise Refusal("too-short", detail, row)
        kept = slice(trim.first, trim.first + trim.count)
        samples = material.samples[trim.sample : trim.sample + trim.samples]
        return _Material(material.frames[kept], material.points[kept], material.scores[kept], samples)

    def _latents(self, material: _Material, track: BodyTrack, caption: str) -> dict[str, torch.Tensor]:
        height, width = material.frames.shape[1:3]
        masks = np.stack([lip_mask(mesh, height, width, _LIP_MARGIN) for mesh in material.points])
        return self._latent_encoder.encode(
            material.frames,
            material.samples,
            self.model.fps,
            masks,
            material.points,
            material.scores,
            track,
            caption,
        )

    @functools.cached_property
    def _latent_encoder(self) -> LatentEncoder:
        return LatentEncoder(self.model.pipeline, self.settings.window_frames, self.settings.windows)
