"""A speech encoder in place of a model's own, such as one that was trained on other languages.

Only wav2vec2 networks of the same shape will do: the adapter reads features of a certain width at 50 a second, and those of another family
(Whisper, HuBERT) mean something else altogether. Those of another wav2vec2 checkpoint differ too, so it is a choice to be tried.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fantasytalking.conditioning.speech_features import SAMPLE_RATE, SAMPLES_PER_TOKEN, SpeechEncoder
from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.system.json import read_json_object

__all__ = ["encoder_note", "load_speech_encoder"]

_FAMILY = "wav2vec2"
_LEAVE_OUT = "leave out --speech-encoder, or name a wav2vec2 network of this shape"


def encoder_note(name: str) -> str:
    """What a user should know of a video whose speech was heard by another encoder."""
    return (
        f"The speech is heard by '{name}'. The model was trained with its own speech encoder, whose features differ, so compare the lips "
        "with those of a run without it."
    )


def load_speech_encoder(name: str | os.PathLike[str], model: Path) -> dict[str, Any]:
    """Load a wav2vec2 network and its feature extractor for a model folder.

    Args:
        name: Folder in the layout of transformers, or a repository of the hub as owner/name, whose weights are safetensors.
        model: The model folder, whose own encoder it replaces.

    Returns:
        The pipeline's parts by name.

    Raises:
        SettingsError: The model's own encoder is of another family, or the shapes differ.
        CheckpointError: The network cannot be read.
    """
    name = os.path.expanduser(name)
    own = read_json_object(model / "audio_encoder" / "config.json")
    if own.get("model_type") != _FAMILY:
        kind = next(iter(own.get("architectures") or []), own.get("model_type") or "no speech encoder")
        raise SettingsError(
            f"The model '{model}' hears speech through {kind}, and another encoder can only replace a wav2vec2 network; leave out "
            "--speech-encoder."
        )
    config = _config_of(name)
    width = read_json_object(model / "transformer" / "config.json").get("audio_feature_dim", 768)
    _check_shape(name, config, own, int(width))
    return _load(name)


def _config_of(name: str) -> Mapping[str, Any]:
    """Configuration of a network that is not loaded yet, defaults included."""
    from transformers import AutoConfig

    if not Path(name).is_dir() and (Path(name).exists() or len(Path(name).parts) != 2):
        raise CheckpointError(
            f"There is no speech encoder '{name}'; give a folder with config.json, model.safetensors and preprocessor_config.json, or a "
            "repository of the hub as owner/name."
        )
    try:
        result: dict[str, Any] = AutoConfig.from_pretrained(name).to_dict()
    except Exception as error:
        # The hub's client and transformers raise errors of many kinds.
        raise _unreadable(name, error) from error
    return result


def _check_shape(name: str, config: Mapping[str, Any], own: Mapping[str, Any], width: int) -> None:
    if config.get("model_type") != _FAMILY:
        raise SettingsError(
            f"'{name}' is a {config.get('model_type')} network, and this model hears wav2vec2 features; {_LEAVE_OUT}."
        )
    stride = math.prod(config["conv_stride"])
    told = {
        "features that are so wide": (config["hidden_size"], width),
        "samples a feature": (stride, SAMPLES_PER_TOKEN),
        "layers": (config["num_hidden_layers"], own.get("num_hidden_layers", config["num_hidden_layers"])),
    }
    for what, (found, wanted) in told.items():
        if found != wanted:
            raise SettingsError(f"'{name}' has {found} {what}, and this model needs {wanted}; {_LEAVE_OUT}.")


def _load(name: str) -> dict[str, Any]:
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(name)
        network, report = Wav2Vec2Model.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise _unreadable(name, error) from error
    # What only pre-training uses has no value that matters; anything else that is missing would be random.
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise CheckpointError(f"The speech encoder '{name}' lacks weights, such as {missing[0]}; give a complete one.")
    if extractor.sampling_rate != SAMPLE_RATE:
        raise SettingsError(
            f"'{name}' hears {extractor.sampling_rate} Hz, and this model needs {SAMPLE_RATE}; {_LEAVE_OUT}."
        )
    encoder = SpeechEncoder(network, extractor)
    return {"audio_encoder": encoder.network, "audio_processor": extractor}


def _unreadable(name: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return CheckpointError(
        f"The speech encoder '{name}' cannot be read: {reason} (it needs config.json, preprocessor_config.json and weights as safetensors)"
    )
