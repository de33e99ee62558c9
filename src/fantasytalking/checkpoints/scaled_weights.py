"""Weights in 8-bit floats that ComfyUI's tools write: each matrix may have a scale beside it, by which its values are multiplied.

| names in the file | meaning |
|---|---|
| `X.weight` (float8), nothing else | the values themselves |
| `scaled_fp8` | marks a file with scales |
| `X.scale_weight`, later `X.weight_scale` | one scale, or one for each output |
| `X.scale_input`, `X.input_scale`, `X.comfy_quant`, `_quantization_metadata` | for arithmetic in 8 bits, which is not used here |
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fantasytalking.checkpoints.tensor_info import TensorInfo
from fantasytalking.errors import CheckpointError

__all__ = ["FLOAT8", "companions", "scaled"]

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
MARKERS = ("scaled_fp8",)
SCALES = (".scale_weight", ".weight_scale")
UNUSED = (".scale_input", ".input_scale", ".comfy_quant")


def companions(infos: Mapping[str, TensorInfo], prefix: str, path: object) -> tuple[dict[str, str], set[str]]:
    """Find the scales of a file.

    Args:
        infos: Tensors of the file.
        prefix: Text in front of every name.
        path: The file, for messages.

    Returns:
        Name of a weight -> name of its scale, and all names that are no weights of the model.

    Raises:
        CheckpointError: The weights beside the scales are of another kind than 8-bit floats.
    """
    scales: dict[str, str] = {}
    extra: set[str] = set()
    for key in infos:
        suffix = next((one for one in (*SCALES, *UNUSED) if key.endswith(one)), None)
        if key.removeprefix(prefix) in MARKERS:
            extra.add(key)
        if suffix is None or (weight := f"{key.removesuffix(suffix)}.weight") not in infos:
            continue
        extra.add(key)
        if suffix in SCALES:
            _check_scale(infos[weight], infos[key], weight, path)
            scales[weight] = key
    return scales, extra


def _check_scale(weight: TensorInfo, scale: TensorInfo, name: str, path: object) -> None:
    if weight.dtype not in FLOAT8:
        raise CheckpointError(
            f"{path}: {name} has a scale and is stored as {str(weight.dtype).removeprefix('torch.')}; "
            "of scaled weights only 8-bit floats are read, so use an fp8, GGUF or bf16 file."
        )
    count = torch.Size(scale.shape).numel()
    if count not in (1, weight.shape[0]):
        raise CheckpointError(
            f"{path}: {name} has {count} scales, but one or {weight.shape[0]} (one for each output) are read; "
            "use a file with one scale for each matrix."
        )


def scaled(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """A matrix [out, in] multiplied by its scale, or each row by its own; float32."""
    return weight.float() * scale.float().reshape(-1, *[1] * (weight.ndim - 1))
