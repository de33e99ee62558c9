"""What a model decides about its training set: frame rate, loudness, speech features, face embedding, size of pictures."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fantasytalking.conditioning.speech_features import SpeechEncoder
from fantasytalking.errors import CheckpointError
from fantasytalking.geometry import NATIVE_FPS, PATCH, SPACE_STRIDE
from fantasytalking.media.loudness import normalise_loudness
from fantasytalking.perception.face_embedding import EMBEDDING_DIMENSIONS, Backend
from fantasytalking.pipeline.load_pipeline import choose_device
from fantasytalking.pipeline.model_folder import EMBEDDED, INDEX, resolve_model
from fantasytalking.pipeline.model_rules import ModelRules
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline

__all__ = ["PreparationModel"]

_WAN = "AutoencoderKLWan"
_DEMO_SIDE = 448


class PreparationModel:
    """The model that a set is made for; its transformer is never loaded, its encoders at first use.

    Args:
        name: `embedded`, a folder, or owner/name on the hub.
        latents: "auto" or "off", as of `PreparationSettings`.
        device: where its encoders compute.

    Raises:
        CheckpointError: there is no such model, or its index cannot be read.
    """

    def __init__(self, name: str, latents: str = "auto", device: str = "auto") -> None:
        self.name, self._device = name, device
        self._source = resolve_model(name)
        self._index = _read_json(self._source, INDEX)
        self.encodes_latents = latents == "auto" and (self._index.get("vae") or [None, None])[1] == _WAN

    @property
    def fps(self) -> float:
        """Frames a second of its training videos: 25 for the embedded model, 23 for Wan as released."""
        return float(self._index.get("native_fps", NATIVE_FPS))

    @property
    def longest_side(self) -> int:
        """Largest side of crops in pixels."""
        given = self._index.get("longest_side", ModelRules.longest_side)
        return int(given or _DEMO_SIDE) if self.encodes_latents else _DEMO_SIDE

    @property
    def multiple(self) -> int:
        """Both sides of crops are multiples of it: of whole tokens where latents are made, else of 2, as H.264 wants."""
        return SPACE_STRIDE * PATCH[1] if self.encodes_latents else 2

    @functools.cached_property
    def face_backend(self) -> Backend:
        """Network of the face embedding that its identity module takes; the bundled one where it has no such module."""
        config = _read_json(self._source, "transformer/config.json")
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
        """Its encoders, without the transformer, and without what a set without latents does not need."""
        absent: dict[str, None] = {"transformer": None}
        if not self.encodes_latents:
            parts = ("vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
            absent |= dict.fromkeys(parts)
        return FantasyTalkingPipeline.from_pretrained(self.name, **absent).to(choose_device(self._device))

    @functools.cached_property
    def speech_encoder(self) -> SpeechEncoder:
        """Its speech encoder.

        Raises:
            CheckpointError: it has none.
        """
        if self.pipeline.audio_encoder is None:
            raise CheckpointError(f"The model '{self.name}' has no speech encoder; give one that has.")
        return SpeechEncoder(self.pipeline.audio_encoder, self.pipeline.audio_processor)

    def levelled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Speech at the loudness that its encoder takes it at."""
        level = self._index.get("speech_level")
        return samples if level is None else normalise_loudness(samples, target=float(level))

    def speech_features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Speech [n] at 16 kHz to features [t, d] at 50 Hz."""
        return np.asarray(self.speech_encoder.encode(self.levelled(samples)).cpu().numpy(), np.float32)

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that comes with the package, whose speech features the sync network takes."""
        return self.name == EMBEDDED


def _read_json(source: str | Path, name: str) -> dict[str, Any]:
    """A small file of a model folder or of a repository on the hub."""
    path: str | os.PathLike[str] = Path(source) / name
    try:
        if isinstance(source, str):
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(source, name)
        found = json.loads(Path(path).read_text())
    except Exception as error:
        # whatever a missing repository or network makes the hub's client raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"The model '{source}' has no readable {name} ({reason}); give embedded, or a folder that "
            "'fantasytalking convert' or 'fantasytalking download' made."
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"The file {name} of the model '{source}' is no JSON object; download or convert it again."
        )
    return found
