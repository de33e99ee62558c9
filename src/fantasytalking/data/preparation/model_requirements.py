"""Requirements of a model on its training set: frame rate, loudness, speech features, face embedding, picture size."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.data.preparation.model_files import read_model_file
from fantasytalking.errors import CheckpointError
from fantasytalking.geometry import NATIVE_FPS, PATCH, SPACE_STRIDE
from fantasytalking.media.loudness import normalise_loudness
from fantasytalking.perception.face_embedding import EMBEDDING_DIMENSIONS, Backend
from fantasytalking.pipeline.model_names import INDEX, resolve_model
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.system.machine import choose_device

if TYPE_CHECKING:
    from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

__all__ = ["PreparationModel"]

_WAN = "AutoencoderKLWan"
_EMBEDDED_SIDE = 448


class PreparationModel:
    """The model that a set is made for; its transformer is never loaded, its encoders at first use.

    Args:
        name: `embedded`, a folder, or owner/name on the hub.
        latents: `PreparationSettings.latents`.
        device: Device of its encoders.

    Raises:
        CheckpointError: There is no such model, or its index cannot be read.
    """

    def __init__(self, name: str, latents: str = "auto", device: str = "auto") -> None:
        self.name, self._device = name, device
        self._source = resolve_model(name)
        self._index = read_model_file(self._source, INDEX)
        self.encodes_latents = latents == "auto" and (self._index.get("vae") or [None, None])[1] == _WAN

    @property
    def fps(self) -> float:
        """Frames per second of its training videos: 25 for the embedded model, 23 for Wan as released."""
        return float(self._index.get("native_fps", NATIVE_FPS))

    @property
    def longest_side(self) -> int:
        """Maximum side of crops in pixels."""
        given = self._index.get("longest_side", ModelRules.longest_side)
        return int(given or _EMBEDDED_SIDE) if self.encodes_latents else _EMBEDDED_SIDE

    @property
    def multiple(self) -> int:
        """Divisor of both sides of crops in pixels: whole tokens if latents are made, else 2 for H.264."""
        return SPACE_STRIDE * PATCH[1] if self.encodes_latents else 2

    @functools.cached_property
    def face_backend(self) -> Backend:
        """Network whose face embedding its identity module takes; the bundled one if it has no such module.

        Raises:
            CheckpointError: No network has embeddings of the required width.
        """
        config = read_model_file(self._source, "transformer/config.json")
        if config.get("identity_dim") is None:
            return "mobilefacenet"
        for backend, width in EMBEDDING_DIMENSIONS.items():
            if width == config.get("identity_feature_dim"):
                return cast(Backend, backend)
        raise CheckpointError(
            f"The model '{self.name}' wants face embeddings of width {config.get('identity_feature_dim')}, "
            f"but there are {EMBEDDING_DIMENSIONS}; give a model of one of these widths."
        )

    @functools.cached_property
    def pipeline(self) -> FantasyTalkingPipeline:
        """Its encoders: all without the transformer, or speech alone for a set without latents."""
        # brings diffusers, which a worker needs only now
        from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

        absent: dict[str, None] = {"transformer": None}
        if not self.encodes_latents:
            parts = ("vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
            absent |= dict.fromkeys(parts)
        result: FantasyTalkingPipeline = FantasyTalkingPipeline.from_pretrained(self.name, **absent).to(
            choose_device(self._device)
        )
        return result

    @functools.cached_property
    def speech_encoder(self) -> SpeechEncoder:
        """Its speech encoder.

        Raises:
            CheckpointError: It has none.
        """
        if self.pipeline.audio_encoder is None:
            raise CheckpointError(
                f"The model '{self.name}' has no speech encoder; give a folder that 'fantasytalking convert' made with --audio-encoder."
            )
        return SpeechEncoder(self.pipeline.audio_encoder, self.pipeline.audio_processor)

    def levelled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Speech [n] at the loudness that its encoder expects."""
        level = self._index.get("speech_level")
        return samples if level is None else normalise_loudness(samples, target=float(level))

    def speech_features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode speech [n] at 16 kHz to features [t, d] at 50 Hz."""
        return np.asarray(self.speech_encoder.encode(self.levelled(samples)).cpu().numpy(), np.float32)
