"""Assemble the published parts into one pipeline folder for `FantasyTalkingPipeline.from_pretrained`.

Parts are written one after the other, each tensor by tensor, so only one tensor is in memory however large the model
is. The index is written last, so a folder with a `model_index.json` is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch

from fantasytalking.checkpoints.adapter_layouts import parts_in
from fantasytalking.checkpoints.component_files import backbone_config
from fantasytalking.checkpoints.fill_model import Source, final_dtype
from fantasytalking.checkpoints.load_models import (
    Planned,
    plan_image_encoder,
    plan_text_encoder,
    plan_transformer,
    plan_vae,
)
from fantasytalking.checkpoints.model_card import write_model_card
from fantasytalking.checkpoints.wan_layouts import CLIP_PREFIX, same_names
from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.checkpoints.weights_writer import MAX_SHARD_BYTES, Entry, write_checkpoint
from fantasytalking.errors import CheckpointError, OutputError
from fantasytalking.system.hub import check_space
from fantasytalking.system.json import write_json

__all__ = ["assemble_pipeline"]

TOKENIZER_SOURCES = ("tokenizer", "google/umt5-xxl")
"""Folders of the tokenizer: in the `-Diffusers` layout, and among the original files."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "added_tokens.json",
)
IMAGE_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    # As in the released code, the whole image is squeezed into the square and not cropped.
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 5.0}
"""Scheduler config; shift 5 is that of the released code."""
AUDIO_PROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "sampling_rate": 16000,
    "feature_size": 1,
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": False,
}
INDEX: dict[str, Any] = {
    "_class_name": "FantasyTalkingPipeline",
    "transformer": ["fantasytalking", "FantasyTalkingTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "image_encoder": ["transformers", "CLIPVisionModel"],
    "image_processor": ["transformers", "CLIPImageProcessor"],
    "audio_encoder": ["transformers", "Wav2Vec2Model"],
    "audio_processor": ["transformers", "Wav2Vec2FeatureExtractor"],
}


def assemble_pipeline(
    wan: str | Path,
    adapter: str | Path | None,
    audio_encoder: str | Path,
    target: str | Path,
    dtype: torch.dtype = torch.bfloat16,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    report: Callable[[str], None] = lambda line: None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    transformer: str | Path | None = None,
) -> Path:
    """Write a pipeline folder.

    Args:
        wan: Folder of Wan2.1-I2V, with the original files or in the `-Diffusers` layout.
        adapter: The FantasyTalking adapter in any layout; None where the transformer already holds audio weights.
        audio_encoder: Folder of wav2vec2-base-960h.
        target: The folder to write; it must not hold a pipeline yet.
        dtype: Type of the transformer and the text encoder. The VAE and the image encoder are written in fp32, in
            which they run; the audio encoder keeps its type.
        configs: Overrides of the inferred configuration by name of the component; see `load_transformer`.
        report: Called with a line of progress for each part.
        max_shard_bytes: Largest size of one weights file, in bytes.
        transformer: File or folder of Wan's transformer in place of the one in `wan`, whose adapter is kept where none is given.

    Returns:
        The path of `target`.

    Raises:
        CheckpointError: A part is missing, damaged or unsafe, or does not fit its model.
        OutputError: The target already holds a pipeline, or cannot be written.
    """
    wan, target, speech_folder = Path(wan), Path(target), Path(audio_encoder)
    if (target / "model_index.json").exists():
        raise OutputError(f"{target} already holds a pipeline; give another folder, or remove this one first.")
    # All parts are opened and checked before the first byte is written.
    parts = _plan_parts(wan, adapter, dtype, configs or {}, transformer)
    tokenizer = _find_tokenizer(wan)
    speech = _open_speech_encoder(speech_folder)
    sizes = {name: sum(entry.nbytes for entry in _entries(*part, prefix="")) for name, part in parts.items()}
    check_space(target, sum(sizes.values()), "choose a larger disk")
    try:
        for name, (planned, kind) in parts.items():
            report(f"{name}: {sizes[name] / 1e9:.2f} GB")
            _write_model(target / name, planned, kind, max_shard_bytes)
        report("audio_encoder, tokenizer, processors, scheduler")
        _write_speech_encoder(target, speech_folder, speech)
        _copy(tokenizer, target / "tokenizer", TOKENIZER_FILES)
        _write_config(target / "image_processor" / "preprocessor_config.json", IMAGE_PROCESSOR)
        version = {"_diffusers_version": diffusers.__version__}
        _write_config(target / "scheduler" / "scheduler_config.json", SCHEDULER | version)
        _write_config(target / "model_index.json", INDEX | version)
        write_model_card(target, ["Assembled of published weights with `fantasytalking convert`."])
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"{target} cannot be written ({reason}); choose a writable folder with enough space."
        ) from error
    return target


def _plan_parts(
    wan: Path,
    adapter: str | Path | None,
    dtype: torch.dtype,
    configs: Mapping[str, Mapping[str, Any]],
    backbone: str | Path | None,
) -> dict[str, tuple[Planned, torch.dtype]]:
    """Plan the models that are written tensor by tensor: name of the component -> plan and type of its weights."""
    config = configs.get("transformer")
    if backbone is not None:
        adapter, config = adapter or _own_adapter(wan), backbone_config(wan) | dict(config or {})
    transformer = plan_transformer(backbone or wan, adapter, config)
    if "audio" not in parts_in(transformer.model.state_dict()):
        raise CheckpointError(f"{wan} holds no audio weights; give the FantasyTalking adapter as well (--adapter).")
    _require_filled(transformer, wan)
    return {
        "transformer": (transformer, dtype),
        "vae": (plan_vae(wan, configs.get("vae")), torch.float32),
        "text_encoder": (plan_text_encoder(wan, configs.get("text_encoder")), dtype),
        "image_encoder": (plan_image_encoder(wan, configs.get("image_encoder")), torch.float32),
    }


def _own_adapter(wan: Path) -> Path | None:
    """The folder of a transformer that holds an adapter, or None."""
    folder = wan / "transformer"
    held = folder.is_dir() and "audio_projector.proj.weight" in open_weights(folder).infos
    return folder if held else None


def _require_filled(planned: Planned, path: Path) -> None:
    if planned.fresh:
        raise CheckpointError(
            f"{path} and its adapter have no values for {len(planned.fresh)} tensors ({', '.join(planned.fresh[:5])}); "
            "remove the parts that are not trained yet from the config."
        )


def _find_tokenizer(wan: Path) -> Path:
    for name in TOKENIZER_SOURCES:
        if (wan / name / "tokenizer_config.json").is_file():
            return wan / name
    raise CheckpointError(
        f"The weights folder {wan} has no tokenizer ({' or '.join(TOKENIZER_SOURCES)}); download or copy it as well."
    )


def _open_speech_encoder(folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is not a speech encoder: it has no config.json; give the folder of wav2vec2-base-960h."
        )
    file = folder / "pytorch_model.bin"
    weights = open_weights(file if file.is_file() and not list(folder.glob("*.safetensors")) else folder)
    return Source(weights, same_names("speech encoder"))


def _write_speech_encoder(target: Path, folder: Path, source: Source) -> None:
    entries = [Entry(key, shape, source.dtype(key), partial(source.get, key)) for key, shape in source.shapes().items()]
    write_checkpoint(target / "audio_encoder", "model", entries)
    shutil.copyfile(folder / "config.json", target / "audio_encoder" / "config.json")
    own = folder / "preprocessor_config.json"
    settings = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else AUDIO_PROCESSOR
    _write_config(target / "audio_processor" / "preprocessor_config.json", settings)


def _entries(planned: Planned, dtype: torch.dtype, prefix: str) -> Iterator[Entry]:
    for source in planned.sources:
        shapes = source.shapes()
        for key in source.ordered():
            kind = final_dtype(planned.model, key, source.dtype(key), dtype)
            yield Entry(prefix + key, shapes[key], kind, partial(source.get, key))


def _write_model(folder: Path, planned: Planned, dtype: torch.dtype, max_shard_bytes: int) -> None:
    model = planned.model
    if hasattr(model, "save_config"):
        stem, prefix = "diffusion_pytorch_model", ""
        model.save_config(folder)
    else:
        stem = "model"
        # CLIP's files on the hub have the prefix that transformers 5 dropped from the class; every version reads it.
        prefix = CLIP_PREFIX if type(model).__name__ == "CLIPVisionModel" else ""
        prefix = "" if any(key.startswith(CLIP_PREFIX) for key in model.state_dict()) else prefix
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
    write_checkpoint(folder, stem, _entries(planned, dtype, prefix), max_shard_bytes)
    for source in planned.sources:
        source.weights.release()


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _write_config(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names in alphabetical order, as diffusers and transformers write their configs.
    write_json(path, json.loads(json.dumps(dict(content), sort_keys=True)), indent=2)
