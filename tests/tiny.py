"""Real parts at tiny width, with random weights: what the tests use instead of mocks."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fantasytalking.conditioning.audio_windows import window_ranges
from fantasytalking.conditioning.conditions import AudioCondition, Conditions, IdentityCondition
from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.geometry import Strides
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

NUM_FRAMES = 17
LATENT_FRAMES = Strides().latent_frames(NUM_FRAMES)
LATENT_SIZE = (4, 6)
TEXT_DIM, TEXT_TOKENS = 12, 7
IMAGE_DIM, IMAGE_TOKENS = 20, 5
AUDIO_FEATURE_DIM, AUDIO_TOKENS = 14, 37
FACE_DIM = 10

WAN_CONFIG: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 12,
    "out_channels": 4,
    "text_dim": TEXT_DIM,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "image_dim": IMAGE_DIM,
    "added_kv_proj_dim": 24,
}
PARTS: dict[str, Any] = {
    "audio_feature_dim": AUDIO_FEATURE_DIM,
    "audio_dim": 18,
    "identity_feature_dim": FACE_DIM,
    "identity_dim": 16,
    "identity_tokens": 3,
    "motion": True,
}


def tiny_transformer(seed: int = 0, trained: bool = True, **config: Any) -> FantasyTalkingTransformer3DModel:
    """A transformer with all parts.

    Args:
        seed: of the weights.
        trained: whether the parts that start at zero get random weights, as if they had been trained.
        config: changes to `WAN_CONFIG` and `PARTS`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FantasyTalkingTransformer3DModel(**(WAN_CONFIG | PARTS | config))
        if trained:
            for name, parameter in model.named_parameters():
                if "v_proj" in name or name.startswith("motion_network.out"):
                    torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tiny_latents(batch: int = 1, seed: int = 0, frames: int = LATENT_FRAMES) -> torch.Tensor:
    """Input latents [batch, C, frames, h, w]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, WAN_CONFIG["in_channels"], frames, *LATENT_SIZE, generator=generator)


def tiny_conditions(
    batch: int = 1, seed: int = 0, tokens: int = AUDIO_TOKENS, frames: int = NUM_FRAMES, clip_mode: bool = False
) -> Conditions:
    """Random conditions of all kinds, speech in frame mode unless asked otherwise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    ranges = None if clip_mode else window_ranges(tokens, frames).expand(batch, -1, -1)
    return Conditions(
        text=normal(TEXT_TOKENS, TEXT_DIM),
        image=normal(IMAGE_TOKENS, IMAGE_DIM),
        audio=AudioCondition(normal(tokens, AUDIO_FEATURE_DIM), ranges),
        identity=IdentityCondition(torch.nn.functional.normalize(normal(FACE_DIM), dim=-1)),
        motion=torch.rand(batch, 2, generator=generator),
    )


def tiny_wav2vec2(seed: int = 0) -> SpeechEncoder:
    """wav2vec2 with its real convolutions (one feature per 320 samples) at small width; d is 16."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7
        )
        return SpeechEncoder(Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(do_normalize=True))


def tiny_whisper(seed: int = 0) -> SpeechEncoder:
    """Whisper's encoder at small width with its real block of 30 seconds; d is 16."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16)
        return SpeechEncoder(WhisperEncoder(config), WhisperFeatureExtractor(feature_size=80))
