"""Speech features and their projection to audio tokens (paper section 3.2).

Letters: B batch, n samples, t speech tokens, d width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from fantasytalking.errors import AudioError, CheckpointError
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.system.execution_device import execution_device

SAMPLE_RATE = 16_000
SAMPLES_PER_TOKEN = round(SAMPLE_RATE / AUDIO_TOKEN_RATE)
BLOCK_SECONDS = 30
"""Block length of Whisper; both encoders encode longer speech in blocks of this length."""
OVERLAP_SECONDS = 4
"""Overlap of neighbouring blocks, over which their features are cross-faded, so that there is no seam."""

# transformers takes seconds to import, and much that needs the projector or the sample rate loads no encoder.
if TYPE_CHECKING:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    SpeechModel: TypeAlias = Wav2Vec2Model | WhisperEncoder
    FeatureExtractor: TypeAlias = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor


class AudioProjector(nn.Module):
    """Projects speech features to audio tokens; the keys are those of the released `proj_model`.

    Args:
        feature_dim: Width of the speech features.
        dim: Width of the audio tokens.
    """

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(feature_dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project features [B, t, d_features] to audio tokens [B, t, d]."""
        result: torch.Tensor = self.norm(self.proj(features))
        return result


class SpeechEncoder:
    """Frozen speech network of transformers with its feature extractor.

    The released model uses wav2vec2 (zero-mean, unit-variance waveform), the embedded one the encoder of Whisper
    (log-mel spectrogram). Loaded and saved in the layout of transformers: `config.json`, `model.safetensors`,
    `preprocessor_config.json`. A pipeline holds the two parts; making a `SpeechEncoder` from them costs nothing.

    Args:
        network: `Wav2Vec2Model` or the encoder of a `WhisperModel`.
        extractor: Feature extractor of the network, which also determines how the waveform is normalised.

    Raises:
        CheckpointError: The two do not belong together, or the extractor does not work at 16 kHz.
    """

    def __init__(self, network: SpeechModel, extractor: FeatureExtractor) -> None:
        from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        fits = WhisperFeatureExtractor if isinstance(network, WhisperEncoder) else Wav2Vec2FeatureExtractor
        if not isinstance(extractor, fits) or extractor.sampling_rate != SAMPLE_RATE:
            raise CheckpointError(
                f"A {type(network).__name__} needs a {fits.__name__} at {SAMPLE_RATE} Hz, "
                f"but got a {type(extractor).__name__} at {extractor.sampling_rate} Hz."
            )
        self.network = network.eval().requires_grad_(False)
        self.extractor = extractor
        self._normalises_waveform = isinstance(extractor, Wav2Vec2FeatureExtractor)

    @property
    def feature_dim(self) -> int:
        """Width d of the features: 768 for wav2vec2-base, 384 for Whisper tiny."""
        return int(self.network.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Device that the network computes on."""
        return execution_device(self.network)

    @property
    def dtype(self) -> torch.dtype:
        """Type that the network computes in."""
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
            rounded; wav2vec2 gives one less).

        Raises:
            AudioError: The samples are not one channel, or shorter than one feature needs (25 ms).
        """
        wave = np.asarray(samples.cpu() if isinstance(samples, torch.Tensor) else samples, dtype=np.float32)
        if wave.ndim != 1 or wave.size < 400:
            raise AudioError(
                f"Speech must be one channel of at least 400 samples (25 ms at 16 kHz), but has the shape {wave.shape}."
            )
        if self._normalises_waveform:
            # Before it is cut into blocks: normalised on its own, a block with little speech would be amplified.
            wave = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="np").input_values[0]
        if wave.size <= BLOCK_SECONDS * SAMPLE_RATE:
            return self._encode_block(wave)
        return self._encode_long(wave)

    def _encode_block(self, wave: np.ndarray) -> torch.Tensor:
        """Features of at most 30 seconds of speech, which is already normalised for wav2vec2."""
        if self._normalises_waveform:
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

        Always in float32, whatever type is stored: the encoder is small, and CPUs are slow in half precision.

        Args:
            source: Folder or hub id, for example `facebook/wav2vec2-base-960h`.
            subfolder: Folder inside it.
            revision: Revision on the hub.
            device: Device that the network is moved to.

        Raises:
            CheckpointError: It holds no wav2vec2 or Whisper model, or its files are missing or damaged.
        """
        from transformers import (
            AutoConfig,
            Wav2Vec2FeatureExtractor,
            Wav2Vec2Model,
            WhisperFeatureExtractor,
            WhisperModel,
        )
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

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
            folder: Output folder, created if it is missing.
            dtype: Type to store the weights in; None: as they are. The embedded model stores float16.
        """
        stored = {name: value.to(dtype) if dtype else value for name, value in self.network.state_dict().items()}
        self.network.save_pretrained(folder, state_dict=stored)
        self.extractor.save_pretrained(folder)
