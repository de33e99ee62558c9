"""Portrait, speech and words to `Conditions`: each frozen encoder's call, and what stands in where a model has none.

Letters: B batch (here always 1), f latent frames, t speech features, l text tokens, li image tokens, d width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from diffusers.pipelines.wan.pipeline_wan_i2v import prompt_clean
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.conditioning.audio_windows import resample_features, window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.errors import CheckpointError
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.perception.face_embedding import EMBEDDING_DIMENSIONS, Backend, embed_face
from fantasytalking.pipeline.inputs import ModelRules, Portrait, Speech
from fantasytalking.pipeline.settings import GenerationSettings

if TYPE_CHECKING:
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

__all__ = ["encode_conditions", "encode_image", "encode_speech", "encode_text"]

TEXT_TOKENS = 512
"""Length that Wan was trained with; shorter prompts are padded with zeros, which the model sees."""


def encode_conditions(
    pipeline: FantasyTalkingPipeline, portrait: Portrait, speech: Speech, settings: GenerationSettings
) -> Conditions:
    """Everything the transformer is told, for the branch with prompt and speech.

    Args:
        pipeline: Its encoders; those it does not have are left out.
        portrait: From `inputs.load_portrait`.
        speech: From `inputs.load_speech`.
        settings: Uses the prompt, the scales, the audio level and the intensities.

    Returns:
        A batch of one on the pipeline's device.
    """
    transformer = pipeline.transformer.config
    motion = torch.tensor([[settings.w_face, settings.w_body]]) if transformer.motion else None
    identity = None
    if portrait.original_face is not None and transformer.identity_dim is not None:
        backend = _face_backend(transformer.identity_feature_dim)
        embedding = embed_face(portrait.original, portrait.original_face, backend)
        identity = IdentityCondition(torch.from_numpy(np.asarray(embedding, np.float32))[None], settings.identity_scale)
    audio = None
    if transformer.audio_dim is not None:
        audio = encode_speech(pipeline, speech, pipeline.rules, settings.audio_scale, settings.audio_level)
    conditions = Conditions(
        text=encode_text(pipeline, settings.prompt),
        image=encode_image(pipeline, portrait.pixels),
        audio=audio,
        identity=identity,
        motion=motion,
    )
    return conditions.to(pipeline._execution_device, pipeline.transformer.dtype)


def encode_speech(
    pipeline: FantasyTalkingPipeline,
    speech: Speech,
    rules: ModelRules,
    scale: float,
    level: Literal["frame", "clip"] = "frame",
) -> AudioCondition:
    """Speech features and, at frame level, the window of each latent frame.

    The model knows speech at its native frame rate only. At another rate the features are resampled in time to as many
    as the same number of native frames would have, so that each window keeps its width in tokens and holds the speech
    that belongs to its frames.

    Returns:
        features [1, t, d], ranges [1, f, 2] or, at clip level, None.
    """
    encoder = SpeechEncoder(pipeline.audio_encoder, pipeline.audio_processor)
    features = encoder.encode(speech.samples)
    if speech.fps != rules.native_fps:
        count = max(1, round(speech.num_frames / rules.native_fps * AUDIO_TOKEN_RATE))
        features = resample_features(features, count)
    ranges = window_ranges(features.shape[0], speech.num_frames)[None] if level == "frame" else None
    return AudioCondition(features[None], ranges, scale=scale)


def _face_backend(width: int) -> Backend:
    """The embedding network that a model of this identity width was trained with."""
    for backend, dimensions in EMBEDDING_DIMENSIONS.items():
        if dimensions == width:
            return cast(Backend, backend)
    raise CheckpointError(f"The model wants face embeddings of width {width}, but there are {EMBEDDING_DIMENSIONS}.")


@torch.no_grad()
def encode_text(pipeline: FantasyTalkingPipeline, text: str) -> Tensor:
    """Text tokens [1, 512, d]; one zero token [1, 1, d] for a model without text encoder."""
    if pipeline.text_encoder is None or pipeline.tokenizer is None:
        return torch.zeros(1, 1, pipeline.transformer.config.text_dim)
    tokens = pipeline.tokenizer(
        [prompt_clean(text)],
        padding="max_length",
        max_length=TEXT_TOKENS,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    device = pipeline._execution_device
    mask = tokens.attention_mask.to(device)
    states: Tensor = pipeline.text_encoder(tokens.input_ids.to(device), mask).last_hidden_state
    # As released: what stands behind the prompt is zero, not the encoder's idea of padding.
    return states * mask[..., None].to(states.dtype)


@torch.no_grad()
def encode_image(pipeline: FantasyTalkingPipeline, pixels: NDArray[np.uint8]) -> Tensor | None:
    """Image tokens [1, li, d]: the last but one layer of the image encoder, as Wan uses it."""
    if pipeline.image_encoder is None or pipeline.image_processor is None:
        return None
    inputs = pipeline.image_processor(images=pixels, return_tensors="pt")
    values = inputs.pixel_values.to(pipeline._execution_device, pipeline.image_encoder.dtype)
    tokens: Tensor = pipeline.image_encoder(pixel_values=values, output_hidden_states=True).hidden_states[-2]
    return tokens
