"""From one span to one prepared clip: all stages in order, the cheap ones first; each may drop it."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from fantasytalking.conditioning.speech_features import SAMPLE_RATE
from fantasytalking.data.face_tracks import mean_embedding
from fantasytalking.data.preparation.captions import caption_of
from fantasytalking.data.preparation.check_sync import check_sync, trim_for
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

if TYPE_CHECKING:
    from fantasytalking.data.preparation.clip_latents import LatentEncoder

__all__ = ["ClipPreparer"]

# faults of the run and not of the clip
_RUN_ERRORS = (CheckpointError, MissingDependencyError, OutputError, SettingsError)
_LIP_MARGIN = 0.1


@dataclass
class _CroppedClip:
    """Frames and mesh of the crop, and the sound that belongs to them.

    Attributes:
        frames: Frames uint8 [F, H, W, 3].
        points: Mesh [F, 468, 3] in pixels of `frames`.
        scores: Face presence [F], 0..1.
        samples: Sound [n] at 16 kHz, as long as the frames.
    """

    frames: NDArray[np.uint8]
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    samples: NDArray[np.float32]


class ClipPreparer:
    """Prepares clips; the networks are loaded at first use, once per object.

    Args:
        settings: Settings of the run.
    """

    def __init__(self, settings: PreparationSettings) -> None:
        self.settings = settings

    @functools.cached_property
    def model(self) -> PreparationModel:
        """The model that the set is made for.

        Raises:
            CheckpointError: There is no such model.
        """
        return PreparationModel(self.settings.model, self.settings.latents, self.settings.device)

    def __call__(self, span: ClipSpan, clock: StageClock) -> PreparedClip | Dropped:
        """Prepare one span; the same span gives the same bytes. Faults of the clip end in `Dropped`.

        Args:
            span: The part of a video.
            clock: Counts the time of each stage.

        Raises:
            CheckpointError: The model cannot be loaded.
            MissingDependencyError: A package that the settings require is not installed.
            SettingsError: The settings do not fit the model.
            OutputError: A file cannot be written.
        """
        row: dict[str, Any] = {"seconds": round(span.seconds, 3)}
        # with more threads the order of sums, and so their last digits, would depend on the number of cores
        with threads(1):
            try:
                return self._prepare(span, row, clock)
            except Refusal as refusal:
                return Dropped(span, refusal.reason, refusal.detail, {**row, **refusal.row})
            except _RUN_ERRORS:
                raise
            except InputError as error:
                return Dropped(span, "unreadable", str(error), row)

    def _prepare(self, span: ClipSpan, row: dict[str, Any], clock: StageClock) -> PreparedClip:
        clip = self._read(span, row, clock)
        with clock.stage("sync"):
            clip = self._synchronise(clip, row)
        with clock.stage("motion"):
            height, width = clip.frames.shape[1:3]
            track = find_joints(clip.frames, self.model.fps, self.settings)
            motion, row["body_source"] = raw_motion(clip.points, clip.scores, track, height, width)
            row["w_face"], row["w_body"] = (float(f"{value:.6g}") for value in motion)
        with clock.stage("identity"):
            embedding = mean_embedding(clip.frames, backend=self.model.face_backend)
        row["caption"] = caption_of(span.video, self.settings)
        with clock.stage("encoders"):
            tensors = {
                "points": torch.from_numpy(clip.points),
                "scores": torch.from_numpy(clip.scores),
                "joints": torch.from_numpy(track.joints).half(),
                "speech": torch.from_numpy(self.model.speech_features(clip.samples)).half(),
                "embedding": torch.from_numpy(embedding),
                "motion": torch.from_numpy(motion),
            }
        if self.model.encodes_latents:
            with clock.stage("latents"):
                tensors |= self._latents(clip, track, row["caption"])
                # a data set groups clips by size without reading their arrays
                row["latent_size"] = list(tensors["latents.0"].shape[1:])
        with clock.stage("writing"):
            files = {
                "mp4": mp4_bytes(clip.frames, self.model.fps, self.settings.quality),
                "flac": flac_bytes(clip.samples, SAMPLE_RATE),
                "jpg": jpeg_bytes(clip.frames[0]),
                "safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()}),
            }
        return PreparedClip(span, row, files)

    def _read(self, span: ClipSpan, row: dict[str, Any], clock: StageClock) -> _CroppedClip:
        """Read everything from the file: sound, then frames."""
        reader = SpanReader(span, self.model.fps)
        with clock.stage("reading"):
            samples = reader.sound()
        with clock.stage("speech"):
            row |= check_speech(samples, self.settings)
        with clock.stage("faces"):
            frames_of_span = reader.replayable_frames()
            face = follow_face(frames_of_span, self.model.fps, self.settings)
            row |= face.row
        with clock.stage("crop"):
            side = self.settings.max_side or self.model.longest_side
            crop = plan_crop(face, self.settings, side, self.model.multiple)
            frames = crop_frames(frames_of_span, crop, len(face.points))
        if len(frames) < len(face.points):
            raise VideoError(
                f"The video '{span.video.path}' gave fewer frames when it was read again; give another copy."
            )
        row["crop"] = list(asdict(crop).values())[:4]
        length = round(len(frames) / self.model.fps * SAMPLE_RATE)
        return _CroppedClip(frames, crop.move(face.points), face.scores, samples[:length])

    def _synchronise(self, clip: _CroppedClip, row: dict[str, Any]) -> _CroppedClip:
        """Bring lips and speech into sync; the ends are cut where the sound was shifted."""
        fps = self.model.fps
        verdict = check_sync(clip.frames, clip.points, clip.scores, clip.samples, fps, self.settings)
        row |= verdict.row
        trim = trim_for(verdict.shift, len(clip.frames), fps)
        row |= {"sync_shift": verdict.shift, "frames": trim.count, "fps": fps, "seconds": round(trim.count / fps, 3)}
        row |= {"height": clip.frames.shape[1], "width": clip.frames.shape[2]}
        if row["seconds"] < self.settings.min_seconds - 1e-3:
            detail = f"{row['seconds']:.2f} s are left in step; at least {self.settings.min_seconds:g} s are needed."
            raise Refusal("too-short", detail, row)
        kept = slice(trim.first, trim.first + trim.count)
        samples = clip.samples[trim.sample : trim.sample + trim.samples]
        return _CroppedClip(clip.frames[kept], clip.points[kept], clip.scores[kept], samples)

    def _latents(self, clip: _CroppedClip, track: BodyTrack, caption: str) -> dict[str, torch.Tensor]:
        height, width = clip.frames.shape[1:3]
        masks = np.stack([lip_mask(mesh, height, width, _LIP_MARGIN) for mesh in clip.points])
        return self._latent_encoder.encode(
            clip.frames,
            clip.samples,
            self.model.fps,
            masks,
            clip.points,
            clip.scores,
            track,
            caption,
        )

    @functools.cached_property
    def _latent_encoder(self) -> LatentEncoder:
        # brings diffusers, which a set without latents does not need
        from fantasytalking.data.preparation.clip_latents import LatentEncoder

        return LatentEncoder(self.model.pipeline, self.settings.window_frames, self.settings.windows)
