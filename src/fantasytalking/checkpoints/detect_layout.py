"""Recognise the layout of a file or folder of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fantasytalking.checkpoints.adapter_layouts import detect_adapter_layout
from fantasytalking.checkpoints.load_models import COMFYUI_PREFIX
from fantasytalking.checkpoints.weights_reader import open_weights
from fantasytalking.errors import CheckpointError

__all__ = ["Layout", "detect_layout"]

Layout = Literal[
    "pipeline",
    "wan-original",
    "wan-diffusers",
    "fantasytalking",
    "vae-original",
    "vae-diffusers",
    "text-encoder-original",
    "text-encoder-transformers",
    "image-encoder-original",
    "image-encoder-transformers",
    "adapter-released",
    "adapter-safetensors",
    "adapter-comfyui",
    "adapter-model",
]
# Tensor names that occur in files of one layout only.
_SIGNS: dict[str, Layout] = {
    "head.modulation": "wan-original",
    COMFYUI_PREFIX + "head.modulation": "wan-original",
    "scale_shift_table": "wan-diffusers",
    "encoder.conv1.weight": "vae-original",
    "encoder.conv_in.weight": "vae-diffusers",
    "token_embedding.weight": "text-encoder-original",
    "encoder.final_layer_norm.weight": "text-encoder-transformers",
    "visual.cls_embedding": "image-encoder-original",
    "vision_model.embeddings.class_embedding": "image-encoder-transformers",
    "embeddings.class_embedding": "image-encoder-transformers",
}


def detect_layout(path: str | Path) -> Layout:
    """Tell the layout of weights from the names of their tensors; no values are read.

    Args:
        path: A weights file, a folder of one component, the folder of original Wan files, or a pipeline folder.

    Returns:
        The layout: `pipeline` for a folder with a `model_index.json`, `wan-original` for the original files (a
        whole folder or the transformer alone), `fantasytalking` for a transformer that holds audio weights.

    Raises:
        CheckpointError: The weights cannot be read, or their layout is unknown.
    """
    path = Path(path)
    if (path / "model_index.json").is_file():
        return "pipeline"
    weights = open_weights(path)
    keys = weights.infos
    adapter = detect_adapter_layout(keys, path)
    if adapter is not None:
        return f"adapter-{adapter}"  # type: ignore[return-value]  # one of the literals above by construction
    for sign, layout in _SIGNS.items():
        if sign in keys:
            return "fantasytalking" if layout == "wan-diffusers" and "audio_projector.proj.weight" in keys else layout
    names = ", ".join(list(keys)[:3]) or "nothing"
    raise CheckpointError(
        f"{path} has an unknown layout: it holds {names}; docs/weights.md lists the layouts that are known."
    )
