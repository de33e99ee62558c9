"""Export of a finished run to a model folder that the pipeline loads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fantasytalking.autoencoder.mesh_autoencoder import MeshAutoencoder
from fantasytalking.autoencoder.mesh_codec import MeshCodec
from fantasytalking.autoencoder.painter import MouthPainter
from fantasytalking.data.face_tracks import TRACK_FPS
from fantasytalking.data.motion_dataset import IntensityScale
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.files import atomic_folder
from fantasytalking.training.motion_percentiles import write_percentiles
from fantasytalking.training.trainer.random_draws import undrawn
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

SPEECH_LEVEL = -20.0  # dBFS, the level to which `normalise_loudness` brought the speech of the tracks
MAX_FRAMES = 501
DEFAULTS = {
    "steps": 12,
    "prompt_guidance_scale": 1.0,
    "audio_guidance_scale": 2.0,
    "sigma_shift": 3.0,
    # livelier than the median person of the footage, most of whom read sentences before a camera
    "w_face": 0.6,
}


NO_GAINS: Mapping[str, tuple[float, ...]] = MappingProxyType({})


def embedded_pipeline(
    transformer: FantasyTalkingTransformer3DModel,
    codec: MeshCodec,
    painter: MouthPainter,
    speech_encoder: Path,
    gains: Mapping[str, tuple[float, ...]] = NO_GAINS,
) -> FantasyTalkingPipeline:
    """Assemble a pipeline from trained parts; arguments as in `export_embedded`."""
    with undrawn():
        vae = MeshAutoencoder(
            codec.coefficients, codec.height, codec.width, codec.strides.width, painter.widths, painter.crop, **gains
        )
    vae.codec.load_state_dict(codec.state_dict())
    vae.painter.load_state_dict(painter.state_dict())
    encoder = WhisperEncoder.from_pretrained(speech_encoder, dtype=torch.float16)
    return FantasyTalkingPipeline(
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=DEFAULTS["sigma_shift"]),
        audio_encoder=encoder,
        audio_processor=WhisperFeatureExtractor.from_pretrained(speech_encoder),
        native_fps=TRACK_FPS,
        max_frames=MAX_FRAMES,
        long_video="continue",
        longest_side=1024,
        own_size=True,
        needs_face=True,
        speech_level=SPEECH_LEVEL,
        defaults=DEFAULTS,
    )


def export_embedded(
    transformer: FantasyTalkingTransformer3DModel,
    codec: MeshCodec,
    painter: MouthPainter,
    intensity: IntensityScale,
    speech_encoder: Path,
    target: Path,
    gains: Mapping[str, tuple[float, ...]] = NO_GAINS,
) -> Path:
    """Write a pipeline folder, the transformer in half precision; other files in the folder (example, model card) are kept.

    Args:
        transformer: Transformer with the averaged weights of the run.
        codec: Codec fitted to the run's material.
        painter: Trained mouth painter.
        intensity: Percentile scale of motion, stored with the weights.
        speech_encoder: Folder of the Whisper encoder and its feature extractor.
        target: Folder to write.
        gains: Gains of the intensities, see `intensity_gains.fit_intensity_gains`.

    Returns:
        `target`, which appears complete or not at all.

    Raises:
        OutputError: The disk is full.
    """
    pipeline = embedded_pipeline(transformer.half(), codec, painter, speech_encoder, gains)
    with atomic_folder(target) as temporary:
        pipeline.save_pretrained(temporary)
        # The encoder was not trained: its own files, with licence and notice, replace the copy that `save_pretrained` made.
        shutil.rmtree(temporary / "audio_encoder")
        shutil.copytree(speech_encoder, temporary / "audio_encoder")
        write_percentiles(temporary, intensity.as_percentiles())
        for other in target.iterdir() if target.is_dir() else ():
            kept = temporary / other.name
            if not kept.exists():
                (shutil.copytree if other.is_dir() else shutil.copyfile)(other, kept)
    return target
