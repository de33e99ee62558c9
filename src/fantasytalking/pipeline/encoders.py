"""From portrait, speech and prompt to `Conditions`: a function for each frozen encoder, and what replaces one that a model lacks.

Letters: B batch (here always 1), f latent frames, t speech features, l text tokens, li image tokens, d width, e face embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fantasytalking.conditioning.audio_windows import resample_features, window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.errors import CheckpointError
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.perception.face_embedding import EMBEDDING_DIMENSIONS, Backend, embed_face
from fantasytalking.pipeline.inputs import Portrait, Speech
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.progress import quiet_logger
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.system.execution_device import execution_device

__all__ = [
    "TEXT_TOKENS",
    "Encoders",
    "encode_conditions",
    "encode_identity",
    "encode_image",
    "encode_prompts",
    "encode_speech",
    "encode_text",
]

TEXT_TOKENS = 512
"""Text length that Wan was trained with; shorter prompts are padded with zeros, which the model sees."""


@dataclass(frozen=True)
class Encoders:
    """The frozen networks that make conditions, and what the transformer takes.

    Attributes:
        config: Configuration of the transformer, which need not be loaded: widths, and which parts it has.
        device: Where the conditions go: where the transformer computes.
        dtype: Type of the conditions, the transformer's.
        text_encoder: umT5, or None.
        tokenizer: Tokenizer of the text encoder.
        image_encoder: CLIP, or None.
        image_processor: Image processor of the image encoder.
        audio_encoder: wav2vec2, or the encoder of Whisper.
        audio_processor: Feature extractor of the audio encoder.
    """

    config: Any
    device: torch.device
    dtype: torch.dtype
    text_encoder: Any = None
    tokenizer: Any = None
    image_encoder: Any = None
    image_processor: Any = None
    audio_encoder: Any = None
    audio_processor: Any = None


def encode_prompts(
    encoders: Encoders, settings: GenerationSettings, prompt: Tensor | None = None, negative: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Text tokens of the prompt and of the negative prompt [1, l, d], on the encoders' device in their type.

    Both at once, and before all else: with parts that wait in main memory each of them fetches the next and sends the one before it
    back, so a part that is called twice, or out of order, stays on the device.

    Args:
        encoders: Encoders of the model.
        settings: Uses both prompts.
        prompt: Embeddings [1, l, d] in place of the prompt.
        negative: Embeddings [1, l, d] in place of the negative prompt.

    Returns:
        The negative prompt is None where it does not differ, or where it is not given and the model has no text encoder.
    """
    text = encode_text(encoders, settings.prompt) if prompt is None else prompt
    differs = prompt is not None or settings.negative_prompt != settings.prompt
    if negative is None and differs and encoders.text_encoder is not None:
        negative = encode_text(encoders, settings.negative_prompt, text.shape[1])
    place = encoders.device, encoders.dtype
    return text.to(*place), None if negative is None else negative.to(*place)


def encode_conditions(
    encoders: Encoders,
    rules: ModelRules,
    portrait: Portrait,
    speech: Speech | None,
    settings: GenerationSettings,
    text: Tensor | None = None,
) -> Conditions:
    """Conditions of the guidance pass with prompt and speech.

    The order is that in which parts of a pipeline wait in main memory (`model_cpu_offload_seq`): text, image, speech.

    Args:
        encoders: Encoders of the model; a condition whose encoder is missing is left out.
        rules: Rules of the model.
        portrait: From `inputs.load_portrait`.
        speech: From `inputs.load_speech`; None leaves it out, as for a long video, whose segments hear parts of it.
        settings: Uses the prompt, the scales, the audio level and the intensities.
        text: Text tokens of the prompt [1, l, d], from `encode_prompts`; None encodes it here.

    Returns:
        A batch of one in the encoders' type and on their device.
    """
    config = encoders.config
    text = encode_text(encoders, settings.prompt) if text is None else text
    image = encode_image(encoders, portrait.pixels)
    audio = None
    if config.audio_dim is not None and speech is not None:
        audio = encode_speech(encoders, speech, rules, settings.audio_scale, settings.audio_level)
    identity = encode_identity(encoders, portrait, settings.identity_scale)
    motion = torch.tensor([[settings.w_face, settings.w_body]]) if config.motion else None
    return Conditions(text, image, audio, identity, motion).to(encoders.device, encoders.dtype)


def encode_identity(encoders: Encoders, portrait: Portrait, scale: float) -> IdentityCondition | None:
    """Embedding [1, e] of the talking face; None where none was looked for or the model has no identity module."""
    if portrait.original_face is None or encoders.config.identity_dim is None:
        return None
    backend = _face_backend(encoders.config.identity_feature_dim)
    embedding = embed_face(portrait.original, portrait.original_face, backend)
    return IdentityCondition(torch.from_numpy(np.asarray(embedding, np.float32))[None], scale)


def encode_speech(
    encoders: Encoders,
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
    encoder = SpeechEncoder(encoders.audio_encoder, encoders.audio_processor)
    features = encoder.encode(speech.samples)
    if speech.fps != rules.native_fps:
        count = max(1, round(speech.num_frames / rules.native_fps * AUDIO_TOKEN_RATE))
        features = resample_features(features, count)
    ranges = window_ranges(features.shape[0], speech.num_frames)[None] if level == "frame" else None
    return AudioCondition(features[None], ranges, scale=scale)


def _face_backend(width: int) -> Backend:
    """Name of the embedding network that makes face embeddings of this width."""
    for backend, dimensions in EMBEDDING_DIMENSIONS.items():
        if dimensions == width:
            return cast(Backend, backend)
    raise CheckpointError(f"The model wants face embeddings of width {width}, but there are {EMBEDDING_DIMENSIONS}.")


@torch.no_grad()
def encode_text(encoders: Encoders, text: str, length: int = TEXT_TOKENS) -> Tensor:
    """Text tokens [1, length, d]; one zero token [1, 1, d] for a model without text encoder."""
    if encoders.text_encoder is None or encoders.tokenizer is None:
        return torch.zeros(1, 1, encoders.config.text_dim)
    # Here, as it imports networks that a model without text encoder has no use for. It warns that torchvision is not installed, which
    # image processing can do without.
    with quiet_logger("transformers"):
        from diffusers.pipelines.wan.pipeline_wan_i2v import prompt_clean
    tokens = encoders.tokenizer(
        [prompt_clean(text)],
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    place = execution_device(encoders.text_encoder)
    mask = tokens.attention_mask.to(place)
    states: Tensor = encoders.text_encoder(tokens.input_ids.to(place), mask).last_hidden_state
    # As released: the tokens behind the prompt are zero, not what the encoder makes of padding.
    result: Tensor = states * mask[..., None].to(states)
    return result


@torch.no_grad()
def encode_image(encoders: Encoders, pixels: NDArray[np.uint8]) -> Tensor | None:
    """Image tokens [1, li, d] of a picture [H, W, 3]: the last but one layer of the image encoder, as Wan uses it.

    None for a model without image encoder.
    """
    if encoders.image_encoder is None or encoders.image_processor is None:
        return None
    inputs = encoders.image_processor(images=pixels, return_tensors="pt")
    values = inputs.pixel_values.to(execution_device(encoders.image_encoder), encoders.image_encoder.dtype)
    tokens: Tensor = encoders.image_encoder(pixel_values=values, output_hidden_states=True).hidden_states[-2]
    return tokens
