"""Speech features and their projection to audio tokens (paper section 3.2).

Letters: B batch, n samples, t speech tokens, d width.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from fantasytalking.errors import AudioError, CheckpointError
from fantasytalking.geometry import AUDIO_TOKEN_RATE
from fantasytalking.system.execution_device import execution_device
from fantasytalking.system.heap import return_free_memory

SAMPLE_RATE = 16_000
SAMPLES_PER_TOKEN = round(SAMPLE_RATE / AUDIO_TOKEN_RATE)
BLOCK_SECONDS = 30
"""Block length of Whisper; both encoders encode longer speech in blocks of this length."""
OVERLAP_SECONDS = 4
"""Overlap of neighbouring blocks, over which their features are cross-faded, so that there is no seam."""

USUAL_LOUDEST = 2.0
"""Loudest value of the log-mel spectrogram of speech at -20 dBFS, log10; 1.9 to 2.5 in recordings."""

# transformers takes seconds to import, and much that needs the projector or the sample rate loads no encoder.
if TYPE_CHECKING:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    SpeechModel: TypeAlias = Wav2Vec2Model | WhisperEncoder
    FeatureExtractor: TypeAlias = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor


class FeatureBlocks:
    """Features of one speech, encoded in overlapping blocks of 30 seconds as they are asked for, and cross-faded.

    Args:
        encoder: The encoder.
        samples: float32 [n], mono, 16 kHz, not normalised; may lie in a file.

    Attributes:
        count: Features of the whole speech.
    """

    def __init__(self, encoder: SpeechEncoder, samples: np.ndarray) -> None:
        self._encoder, self._samples = encoder, samples
        block, overlap = BLOCK_SECONDS * SAMPLE_RATE, OVERLAP_SECONDS * SAMPLE_RATE
        self._starts = range(0, len(samples) - overlap, block - overlap) if len(samples) > block else range(1)
        self._level = encoder.level_of(samples)
        self._known: dict[int, torch.Tensor] = {}
        self.count = self._first(len(self._starts) - 1) + self._length(len(self._starts) - 1)

    def _first(self, number: int) -> int:
        return self._starts[number] // SAMPLES_PER_TOKEN

    def _length(self, number: int) -> int:
        end = min(self._starts[number] + BLOCK_SECONDS * SAMPLE_RATE, len(self._samples))
        return self._encoder.feature_count(end - self._starts[number])

    def between(self, first: int, end: int) -> torch.Tensor:
        """Features float32 [end - first, d]; blocks that end before them are forgotten."""
        needed = [
            i for i in range(len(self._starts)) if self._first(i) < end and self._first(i) + self._length(i) > first
        ]
        self._known = {i: self._known[i] if i in self._known else self._block(i) for i in needed}
        like = self._known[needed[0]]
        total, weight = like.new_zeros(end - first, like.shape[1]), like.new_zeros(end - first, 1)
        for number, features in self._known.items():
            at = self._first(number) - first
            low, high = max(0, at), min(end - first, at + len(features))
            part = slice(low - at, high - at)
            ramp = self._ramp(number, features)[part]
            total[low:high] += features[part] * ramp
            weight[low:high] += ramp
        return total / weight

    def _block(self, number: int) -> torch.Tensor:
        start = self._starts[number]
        mean, deviation = self._level
        wave = np.asarray(self._samples[start : start + BLOCK_SECONDS * SAMPLE_RATE], np.float32)
        if self._level != (0.0, 1.0):
            wave = (wave - np.float32(mean)) / np.float32(deviation)
        return self._encoder.encode_block(wave)

    def _ramp(self, number: int, features: torch.Tensor) -> torch.Tensor:
        fade = OVERLAP_SECONDS * SAMPLE_RATE // SAMPLES_PER_TOKEN
        rise = (torch.arange(fade, device=features.device)[:, None] + 1) / (fade + 1)
        ramp = features.new_ones(len(features), 1)
        if number > 0:
            ramp[:fade] *= rise[: len(features)]
        if number + 1 < len(self._starts):
            ramp[-fade:] *= rise.flip(0)[-len(features) :]
        return ramp


class RecentSpeech:
    """Features of the last seconds of speech, for speech that is still being spoken.

    Whisper's encoder works on 30 seconds, whatever there is to hear; here it has positions for as many seconds as are asked for, and
    shares all else with the encoder given. It also raises all that is 80 dB below the loudest sound to that level. Here that is the
    loudest sound of usual speech at least, so that silence stays what it is when the last word before it is no longer heard.

    Args:
        encoder: The encoder.
        seconds: Length of speech, at most 30.
    """

    def __init__(self, encoder: SpeechEncoder, seconds: float) -> None:
        self._samples = round(seconds * SAMPLE_RATE)
        self._encoder = encoder
        if not encoder.takes_samples:
            self._encoder = SpeechEncoder(
                _shortened(encoder.network, round(seconds * AUDIO_TOKEN_RATE)), encoder.extractor
            )

    @torch.no_grad()
    def encode(self, wave: np.ndarray) -> torch.Tensor:
        """Features float32 [t, d] of samples [n], at most as many as asked for, at the level that the encoder wants."""
        if self._encoder.takes_samples:
            return self._encoder.encode_block(wave if len(wave) >= 400 else np.pad(wave, (0, 400 - len(wave))))
        inputs = self._encoder.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt", max_length=self._samples)
        mel = inputs.input_features.clamp(min=(USUAL_LOUDEST - 4) / 4)
        network = self._encoder.network
        features = network(mel.to(self._encoder.device, self._encoder.dtype)).last_hidden_state[0].float()
        return features[: max(1, round(wave.size / SAMPLES_PER_TOKEN))]  # type: ignore[no-any-return]


def _shortened(network: WhisperEncoder, positions: int) -> WhisperEncoder:
    """Whisper's encoder for fewer positions, which shares its weights with the one given."""
    config = copy.deepcopy(network.config)
    config.max_source_positions = min(positions, config.max_source_positions)
    with torch.device("meta"):
        short = type(network)(config)
    for name, part in network.named_children():
        setattr(short, name, part)
    kept = network.embed_positions.weight[: config.max_source_positions]
    short.embed_positions = nn.Embedding.from_pretrained(kept, freeze=True)
    return short.eval()


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
    def normalises_level(self) -> bool:
        """Whether speech is brought to zero mean and unit variance before it is encoded."""
        return self._normalises_waveform and bool(self.extractor.do_normalize)

    @property
    def takes_samples(self) -> bool:
        """Whether the network takes samples, as wav2vec2 does, and no spectrogram."""
        return self._normalises_waveform

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
        blocks = FeatureBlocks(self, wave)
        return blocks.between(0, blocks.count)

    def feature_count(self, samples: int) -> int:
        """Features of a block of so many samples, at most 30 seconds."""
        if self._normalises_waveform:
            return int(self.network._get_feat_extract_output_lengths(samples))
        return max(1, round(samples / SAMPLES_PER_TOKEN))

    def level_of(self, samples: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation that the samples [n] of a whole speech are normalised by; 0 and 1 where they are not.

        Those of the whole: normalised on its own, a block with little speech would be amplified.
        """
        if not self.normalises_level:
            return 0.0, 1.0
        total = squares = 0.0
        for start in range(0, len(samples), BLOCK_SECONDS * SAMPLE_RATE):
            piece = np.asarray(samples[start : start + BLOCK_SECONDS * SAMPLE_RATE], np.float64)
            total, squares = total + float(piece.sum()), squares + float(np.square(piece).sum())
        mean = total / len(samples)
        # as transformers does it
        return mean, math.sqrt(max(squares / len(samples) - mean * mean, 0.0) + 1e-7)

    @torch.no_grad()
    def encode_block(self, wave: np.ndarray) -> torch.Tensor:
        """Features of at most 30 seconds of speech, which is already normalised for wav2vec2."""
        if self._normalises_waveform:
            values = torch.from_numpy(wave)[None].to(self.device, self.dtype)
            return self.network(values).last_hidden_state[0].float()  # type: ignore[no-any-return]
        inputs = self.extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        # Half of what the encoding of a block takes at its peak is otherwise what the spectrogram has left.
        return_free_memory()
        features = self.network(inputs.input_features.to(self.device, self.dtype)).last_hidden_state[0].float()
        return features[: max(1, round(wave.size / SAMPLES_PER_TOKEN))]  # type: ignore[no-any-return]

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
