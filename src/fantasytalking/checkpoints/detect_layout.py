"""Which layout a file or folder of weights is in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fantasytalking.checkpoints.adapter_layouts import adapter_layout
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
# A name that only files of one layout have.
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
        CheckpointError: Unreadable, or no layout that this library knows.
    """
    path = Path(path)
    if (path / "model_index.json").is_file():
        return "pipeline"
    weights = open_weights(path)
    keys = weights.infos
    adapter = adapter_layout(keys, path)
    if adapter is not None:
        return f"adapter-{adapter}"  # type: ignore[return-value]  # one of the literals above by construction
    for sign, layout in _SIGNS.items():
        if sign in keys:
            return "fantasytalking" if layout == "wan-diffusers" and "audio_projector.proj.weight" in keys else layout
    names = ", ".join(list(keys)[:3]) or "nothing"
    raise CheckpointError(
        f"{path} holds {names} and is in no layout that is known here; docs/weights.md lists those that are."
    )
