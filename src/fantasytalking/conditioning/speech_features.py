"""Speech -> features -> audio tokens (paper section 3.2).

Letters: B batch, n samples, t speech tokens, d width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoConfig,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from fantasytalking.errors import AudioError, CheckpointError
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.system.execution_device import execution_device

SAMPLE_RATE = 16_000
SAMPLES_PER_TOKEN = round(SAMPLE_RATE / AUDIO_TOKEN_RATE)
BLOCK_SECONDS = 30
"""Whisper's own block; longer speech is encoded in blocks of this length by both encoders."""
OVERLAP_SECONDS = 4
"""Time that neighbouring blocks share; their features are cross-faded over it, so that no edge shows."""

SpeechModel: TypeAlias = Wav2Vec2Model | WhisperEncoder
FeatureExtractor: TypeAlias = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor


class AudioProjector(nn.Module):
    """Projects speech features to audio tokens; the keys are those of the released `proj_model`.

    Args:
        feature_dim: width of the speech features.
        dim: width of the audio tokens.
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(feature_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features [B, t, d_features] to audio tokens [B, t, d]."""
        return self.norm(self.proj(features))


class SpeechEncoder:
    """A frozen speech network of transformers behind one function.

    wav2vec2 serves the released model (zero-mean, unit-variance waveform), the Whisper encoder the embedded one
    (log-mel spectrogram). Loaded and saved in the layout of transformers: `config.json`, `model.safetensors`,
    `preprocessor_config.json`. A pipeline holds the two parts and makes one of these from them, at no cost.

    Args:
        network: `Wav2Vec2Model` or the encoder of a `WhisperModel`.
        extractor: its feature extractor; it decides how the waveform is normalised.

    Raises:
        CheckpointError: if the two do not belong together, or the extractor does not work at 16 kHz.
    """

    def __init__(self, network: SpeechModel, extractor: FeatureExtractor) -> None:
        fits = WhisperFeatureExtractor if isinstance(network, WhisperEncoder) else Wav2Vec2FeatureExtractor
        if not isinstance(extractor, fits) or extractor.sampling_rate != SAMPLE_RATE:
            raise CheckpointError(
                f"A {type(network).__name__} needs a {fits.__name__} at {SAMPLE_RATE} Hz, "
                f"but got a {type(extractor).__name__} at {extractor.sampling_rate} Hz."
            )
        self.network = network.eval().requires_grad_(False)
        self.extractor = extractor

    @property
    def feature_dim(self) -> int:
        """Width d of the features: 768 for wav2vec2-base, 384 for Whisper tiny."""
        return int(self.network.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return execution_device(self.network)

    @property
    def dtype(self) -> torch.dtype:
        """Type the network computes in."""
        return self.network.dtype  # type: ignore[no-any-return]

    def to(self, device: torch.device | str) -> SpeechEncoder:
        """Move the network; returns itself."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def encode(self, samples: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Encode speech of any length.

        Args:
            samples: float [n], mono, 16 kHz, in [-1, 1].

        Returns:
            float32 [t, d] on the encoder's device: 50 features per second of the true length (n / 320 of them,
            rounded; for wav2vec2 as many as its convolutions give, one less).

        Raises:
            AudioError: if the samples are not one channel, or shorter than one feature needs (25 ms).
        """
        wave = np.asarray(samples.cpu() if isinstance(samples, torch.Tensor) else samples, dtype=np.float32)
        if wave.ndim != 1 or wave.size < 400:
            raise AudioError(
                f"Speech must be one channel of at least 400 samples (25 ms at 16 kHz), but has the shape {wave.shape}."
            )
        if isinstance(self.extractor, Wav2Vec2FeatureExtractor):
            # Before it is cut into blocks: normalised alone, a block with little speech would be blown up.
            wave = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np").input_values[0]
        if wave.size <= BLOCK_SECONDS * SAMPLE_RATE:
            return self._encode_block(wave)
        return self._encode_long(wave)

    def _encode_block(self, wave: np.ndarray) -> torch.Tensor:
        """Features of at most 30 seconds, for wav2vec2 already normalised."""
        if isinstance(self.extractor, Wav2Vec2FeatureExtractor):
            values = torch.from_numpy(wave)[None].to(self.device, self.dtype)
            return self.network(values).last_hidden_state[0].float()  # type: ignore[no-any-return]
        inputs = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        features = self.network(inputs.input_features.to(self.device, self.dtype)).last_hidden_state[0].float()
        return features[: max(1, round(wave.size / SAMPLES_PER_TOKEN))]  # type: ignore[no-any-return]

    def _encode_long(self, wave: np.ndarray) -> torch.Tensor:
        """Encode overlapping blocks and cross-fade their features."""
        block, overlap = BLOCK_SECONDS * SAMPLE_RATE, OVERLAP_SECONDS * SAMPLE_RATE
        starts = range(0, wave.size - overlap, block - overlap)
        blocks = [self._encode_block(wave[start : start + block]) for start in starts]
        like = blocks[0]
        count = (starts[-1] // SAMPLES_PER_TOKEN) + len(blocks[-1])
        total, weight = like.new_zeros(count, like.shape[1]), like.new_zeros(count, 1)
        fade = overlap // SAMPLES_PER_TOKEN
        rise = (torch.arange(fade, device=like.device)[:, None] + 1) / (fade + 1)
        for start, features in zip(starts, blocks, strict=True):
            ramp = like.new_ones(len(features), 1)
            if start > 0:
                ramp[:fade] *= rise[: len(features)]
            if start != starts[-1]:
                ramp[-fade:] *= rise.flip(0)[-len(features) :]
            first = start // SAMPLES_PER_TOKEN
            total[first : first + len(features)] += features * ramp
            weight[first : first + len(features)] += ramp
        return total / weight

    @classmethod
    def from_pretrained(
        cls, source: str | Path, subfolder: str = "", revision: str | None = None, device: torch.device | str = "cpu"
    ) -> SpeechEncoder:
        """Load from a folder or hub id in the layout of transformers.

        Always in float32, whatever type is stored: the encoder is small, and half precision is slow on CPUs.

        Args:
            source: folder or hub id, for example `facebook/wav2vec2-base-960h`.
            subfolder: folder inside it.
            revision: revision on the hub.
            device: where the network goes.

        Raises:
            CheckpointError: if it holds no wav2vec2 or Whisper model, or its files are missing or broken.
        """
        name = str(source)
        where = {"subfolder": subfolder, "revision": revision}
        try:
            config = AutoConfig.from_pretrained(name, **where)
            if config.model_type == "wav2vec2":
                network = Wav2Vec2Model.from_pretrained(name, dtype=torch.float32, **where)
                extractor = Wav2Vec2FeatureExtractor.from_pretrained(name, **where)
            elif config.model_type == "whisper":
                bare = "WhisperEncoder" in (config.architectures or [])
                whole = (WhisperEncoder if bare else WhisperModel).from_pretrained(name, dtype=torch.float32, **where)
                network = whole if bare else whole.encoder
                extractor = WhisperFeatureExtractor.from_pretrained(name, **where)
            else:
                raise CheckpointError(
                    f"The speech encoder in {name} is a {config.model_type}; use a wav2vec2 or a Whisper model."
                )
        except (OSError, ValueError) as error:
            raise CheckpointError(f"The speech encoder in {name} cannot be loaded: {error}") from error
        return cls(network, extractor).to(device)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Save in the layout of transformers.

        Args:
            folder: made where missing.
            dtype: type to store the weights in; None: as they are. The embedded model stores float16.
        """
        stored = {name: value.to(dtype) if dtype else value for name, value in self.network.state_dict().items()}
        self.network.save_pretrained(folder, state_dict=stored)
        self.extractor.save_pretrained(folder)
