"""Whole pipelines of real parts at tiny width, random weights: like the released model, and like the embedded one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fantasytalking.autoencoder import MeshAutoencoder
from fantasytalking.media.audio import Audio
from fantasytalking.perception.landmarks import face_mesh
from fantasytalking.pipeline.model_names import embedded_folder
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

EXAMPLE = embedded_folder() / "example"
WIDTH = 16


def portrait(side: int = 192) -> NDArray[np.uint8]:
    """A real face: the example portrait, cropped to head and shoulders, side x side x 3."""
    image = Image.open(EXAMPLE / "portrait.png").convert("RGB").crop((64, 0, 384, 320))
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def speech(seconds: float = 0.5, rate: int = 16000) -> Audio:
    """A tone that swells and fades: sound enough for a network, with known length."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 4 * time)) / 2
    return Audio(samples.astype(np.float32), rate)


def transformer(**changes: Any) -> FantasyTalkingTransformer3DModel:
    """Two blocks of width 24 whose audio and identity values are not zero, so that conditions matter."""
    config: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 36,
        "out_channels": 16,
        "text_dim": WIDTH,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "image_dim": WIDTH,
        "added_kv_proj_dim": 24,
        "audio_feature_dim": WIDTH,
        "audio_dim": 20,
    }
    torch.manual_seed(0)
    model = FantasyTalkingTransformer3DModel(**{**config, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.count_nonzero() == 0:
                parameter.normal_(std=0.5)
    return model.eval()


def wan_vae() -> AutoencoderKLWan:
    """Wan's VAE with its strides and 16 latent channels, three channels wide."""
    torch.manual_seed(1)
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words, so that none has to be downloaded."""
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "woman": 4, "speaks": 5, "blurry": 6}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def text_encoder() -> UMT5EncoderModel:
    torch.manual_seed(2)
    config = UMT5Config(vocab_size=8, d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return UMT5EncoderModel(config).eval()


def image_encoder() -> CLIPVisionModel:
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return CLIPVisionModel(config).eval()


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def wav2vec2() -> Wav2Vec2Model:
    """The speech encoder's real stride of 320 samples, at width 16."""
    torch.manual_seed(4)
    config = Wav2Vec2Config(
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8, 8, 8, 8, 8, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        mask_time_prob=0.0,
    )
    return Wav2Vec2Model(config).eval()


def whisper() -> WhisperEncoder:
    torch.manual_seed(5)
    config = WhisperConfig(
        d_model=WIDTH,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=1,
        num_mel_bins=80,
    )
    return WhisperEncoder(config).eval()


def mesh_autoencoder() -> MeshAutoencoder:
    """The embedded model's autoencoder with a real face as template and random expressions."""
    torch.manual_seed(6)
    vae = MeshAutoencoder(coefficients=6, latent_height=4, latent_width=4, painter_widths=(8, 8, 8, 8)).eval()
    codec = vae.codec
    mesh = torch.from_numpy(np.asarray(face_mesh(portrait()).points, np.float32))
    eyes = (mesh[33] - mesh[263]).norm()
    codec.template.copy_((mesh - mesh.mean(0)) / eyes)
    codec.basis.copy_(torch.linalg.qr(torch.randn(468 * 3, 6))[0].T.reshape(6, 468, 3))
    codec.coefficient_std.fill_(0.05)
    return vae


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=5.0)


def wan_pipeline(**changes: Any) -> FantasyTalkingPipeline:
    """Like the released model: every encoder, 23 frames per second; small pictures."""
    parts: dict[str, Any] = {
        "transformer": transformer(),
        "vae": wan_vae(),
        "scheduler": scheduler(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "image_encoder": image_encoder(),
        "image_processor": image_processor(),
        "audio_encoder": wav2vec2(),
        "audio_processor": Wav2Vec2FeatureExtractor(),
        "longest_side": 64,
        "defaults": {"steps": 2},
    }
    return FantasyTalkingPipeline(**{**parts, **changes})


def embedded_pipeline(**changes: Any) -> FantasyTalkingPipeline:
    """Like the embedded model: Whisper, identity, motion, no text or image encoder, own size, 25 frames a second."""
    parts: dict[str, Any] = {
        "transformer": transformer(
            image_dim=None,
            added_kv_proj_dim=None,
            identity_feature_dim=192,
            identity_dim=20,
            identity_tokens=2,
            motion=True,
        ),
        "vae": mesh_autoencoder(),
        "scheduler": scheduler(),
        "audio_encoder": whisper(),
        "audio_processor": WhisperFeatureExtractor(),
        "native_fps": 25.0,
        "max_frames": 501,
        "longest_side": 1024,
        "own_size": True,
        "needs_face": True,
        "defaults": {"steps": 2, "audio_guidance_scale": 2.0},
    }
    return FantasyTalkingPipeline(**{**parts, **changes})
