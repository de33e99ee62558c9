"""From the published parts to one pipeline folder that `FantasyTalkingPipeline.from_pretrained` loads.

Parts are written one after the other, each tensor by tensor: memory stays at one tensor however large the model is.
The index is written last, so a folder with a `model_index.json` is complete.
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
from fantasytalking.checkpoints.fill_model import Source, final_dtype
from fantasytalking.checkpoints.load_models import (
    Planned,
    plan_image_encoder,
    plan_text_encoder,
    plan_transformer,
    plan_vae,
)
from fantasytalking.checkpoints.wan_layouts import CLIP_PREFIX, identity_table
from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.checkpoints.weights_writer import MAX_SHARD_BYTES, Entry, write_checkpoint
from fantasytalking.errors import CheckpointError, OutputError

__all__ = ["assemble_pipeline"]

TOKENIZER_SOURCES = ("tokenizer", "google/umt5-xxl")
"""Where the tokenizer lies: in the `-Diffusers` layout, and among the original files."""
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
    # As released: the whole picture is squeezed into the square, not cropped.
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
"""Sigma shift 5, as released."""
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
) -> Path:
    """Write a pipeline folder.

    Args:
        wan: Wan2.1-I2V: the folder of original files, or the `-Diffusers` folder.
        adapter: The FantasyTalking adapter in any layout; None where the transformer holds audio weights already.
        audio_encoder: The folder of wav2vec2-base-960h.
        target: The folder to write; it must not hold a pipeline yet.
        dtype: Type of transformer and text encoder; VAE and image encoder are written in fp32, in which they run, and
            the audio encoder as it is.
        configs: Component name -> overrides of its sizes, see `load_transformer`.
        report: Called with one line per part.
        max_shard_bytes: Largest size of one weights file, in bytes.

    Returns:
        The folder.

    Raises:
        CheckpointError: A part is missing, damaged, unsafe or does not fit.
        OutputError: The target holds a pipeline already, or cannot be written.
    """
    wan, target, configs = Path(wan), Path(target), configs or {}
    if (target / "model_index.json").exists():
        raise OutputError(f"{target} already holds a pipeline; give another folder, or remove this one first.")
    # All parts are opened and checked before the first byte is written.
    transformer = plan_transformer(wan, adapter, configs.get("transformer"))
    if "audio" not in parts_in(transformer.model.state_dict()):
        raise CheckpointError(f"{wan} holds no audio weights; give the FantasyTalking adapter as well (--adapter).")
    _require_filled(transformer, wan)
    models = {
        "transformer": (transformer, dtype),
        "vae": (plan_vae(wan, configs.get("vae")), torch.float32),
        "text_encoder": (plan_text_encoder(wan, configs.get("text_encoder")), dtype),
        "image_encoder": (plan_image_encoder(wan, configs.get("image_encoder")), torch.float32),
    }
    tokenizer = _find_tokenizer(wan)
    speech = _open_speech_encoder(Path(audio_encoder))
    sizes = {name: sum(entry.nbytes for entry in _entries(*part, prefix="")) for name, part in models.items()}
    _check_space(target, sum(sizes.values()))
    try:
        for name, (planned, kind) in models.items():
            report(f"{name}: {sizes[name] / 1e9:.2f} GB")
            _write_model(target / name, planned, kind, max_shard_bytes)
        report("audio_encoder, tokenizer, processors, scheduler")
        _write_speech_encoder(target, Path(audio_encoder), speech)
        _copy(tokenizer, target / "tokenizer", TOKENIZER_FILES)
        _write_json(target / "image_processor" / "preprocessor_config.json", IMAGE_PROCESSOR)
        version = {"_diffusers_version": diffusers.__version__}
        _write_json(target / "scheduler" / "scheduler_config.json", SCHEDULER | version)
        _write_json(target / "model_index.json", INDEX | version)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"{target} cannot be written ({reason}); choose a writable folder with enough space."
        ) from error
    return target


def _require_filled(planned: Planned, path: Path) -> None:
    if planned.fresh:
        raise CheckpointError(
            f"{path} and its adapter have no values for {len(planned.fresh)} tensors ({', '.join(planned.fresh[:5])}); "
            "leave the parts that are not trained yet out of the config."
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
            f"{folder} is no speech encoder: it has no config.json; give the folder of wav2vec2-base-960h."
        )
    file = folder / "pytorch_model.bin"
    weights = open_weights(file if file.is_file() and not list(folder.glob("*.safetensors")) else folder)
    return Source(weights, identity_table("speech encoder"))


def _write_speech_encoder(target: Path, folder: Path, source: Source) -> None:
    entries = [Entry(key, shape, source.dtype(key), partial(source.get, key)) for key, shape in source.shapes().items()]
    write_checkpoint(target / "audio_encoder", "model", entries)
    shutil.copyfile(folder / "config.json", target / "audio_encoder" / "config.json")
    own = folder / "preprocessor_config.json"
    settings = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else AUDIO_PROCESSOR
    _write_json(target / "audio_processor" / "preprocessor_config.json", settings)


def _entries(planned: Planned, dtype: torch.dtype, prefix: str) -> Iterator[Entry]:
    for source in planned.sources:
        shapes = source.shapes()
        for key in source.ordered():
            kind = final_dtype(planned.model, key, source.dtype(key), dtype)
            yield Entry(prefix + key, shapes[key], kind, partial(source.get, key))


def _check_space(target: Path, needed: int) -> None:
    folder = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{target} has {free / 1e9:.1f} GB free and {needed / 1e9:.1f} GB are needed; choose a larger disk."
        )


def _write_model(folder: Path, planned: Planned, dtype: torch.dtype, max_shard_bytes: int) -> None:
    model = planned.model
    if hasattr(model, "save_config"):
        stem, prefix = "diffusion_pytorch_model", ""
        model.save_config(folder)
    else:
        stem = "model"
        # The hub's files of CLIP carry the prefix that transformers 5 dropped from the class; every version reads it.
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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")
