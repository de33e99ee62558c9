"""Wan's transformer in the layouts in which it circulates quantised: GGUF, ComfyUI's 8-bit floats with and without scales."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from fantasytalking.checkpoints.adapter_layouts import part_of
from fantasytalking.checkpoints.wan_layouts import TRANSFORMER_ORIGINAL

FLOAT8 = torch.float8_e4m3fn


def original_names(model: nn.Module) -> dict[str, torch.Tensor]:
    """Wan's weights of a transformer under their original names."""
    return {
        piece.source: value.clone()
        for key, value in model.state_dict().items()
        if part_of(key) is None and (piece := TRANSFORMER_ORIGINAL.backward(key)) is not None
    }


def is_matrix(key: str, value: torch.Tensor) -> bool:
    """Whether exporters quantise a tensor: the matrices of the blocks."""
    return key.startswith("blocks.") and value.ndim == 2 and key.endswith(".weight")


def write_gguf(model: nn.Module, path: Path, kind: str = "Q8_0", flat: bool = False) -> Path:
    """A GGUF file as city96's converter writes it: architecture "wan", matrices in blocks, the rest in F32 or F16.

    Args:
        model: A transformer.
        path: The file.
        kind: Type of the blocks' matrices.
        flat: Whether the patch embedding is flattened and its shape noted, as older tools do.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "wan")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in original_names(model).items():
        array = value.float().numpy()
        if is_matrix(key, value):
            quantised = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(key, gguf.quants.quantize(array, quantised), raw_dtype=quantised)
        elif flat and array.ndim == 5:
            writer.add_array(f"comfy.gguf.orig_shape.{key}", [int(size) for size in array.shape])
            writer.add_tensor(key, array.reshape(array.shape[0], -1))
        else:
            writer.add_tensor(key, array.astype(np.float16) if array.ndim == 2 else array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_fp8(model: nn.Module, path: Path, prefix: str = "") -> Path:
    """Matrices of the blocks in 8-bit floats, the rest in float32: as plain fp8 files circulate."""
    weights = {
        prefix + key: value.to(FLOAT8) if is_matrix(key, value) else value
        for key, value in original_names(model).items()
    }
    save_file(weights, path)
    return path


def write_scaled_fp8(model: nn.Module, path: Path, new: bool = False, rows: bool = False, prefix: str = "") -> Path:
    """8-bit floats with scales: `scaled_fp8` and `.scale_weight`, or as newer tools name them, one for each matrix or for each row."""
    weights: dict[str, torch.Tensor] = {}
    layers: dict[str, Any] = {}
    for key, value in original_names(model).items():
        if not is_matrix(key, value):
            weights[prefix + key] = value
            continue
        name = key.removesuffix(".weight")
        scale = (value.abs().amax(1, keepdim=True) if rows else value.abs().amax()) / torch.finfo(FLOAT8).max
        weights[prefix + key] = (value / scale).to(FLOAT8)
        if new:
            weights[f"{prefix}{name}.weight_scale"] = scale
            weights[f"{prefix}{name}.comfy_quant"] = torch.frombuffer(
                bytearray(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8
            )
            layers[name] = {"format": "float8_e4m3fn"}
        else:
            weights[f"{prefix}{name}.scale_weight"] = scale
            weights[f"{prefix}{name}.scale_input"] = torch.ones(())
    if new:
        save_file(weights, path, {"_quantization_metadata": json.dumps({"layers": layers})})
    else:
        save_file({**weights, f"{prefix}scaled_fp8": torch.zeros(2, dtype=FLOAT8)}, path)
    return path


def write_single(model: nn.Module, path: Path) -> Path:
    """One file under ComfyUI's prefix, in plain weights."""
    save_file({f"model.diffusion_model.{key}": value for key, value in original_names(model).items()}, path)
    return path


WRITERS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "single": write_single,
    "fp8": write_fp8,
    "scaled": write_scaled_fp8,
    "scaled-new": lambda model, path: write_scaled_fp8(
        model, path, new=True, rows=True, prefix="model.diffusion_model."
    ),
    "gguf": write_gguf,
    "gguf-flat": lambda model, path: write_gguf(model, path, flat=True),
}
"""Layout -> a function that writes a transformer to a file of it."""


def suffix(layout: str) -> str:
    """Ending of a file of a layout."""
    return ".gguf" if layout.startswith("gguf") else ".safetensors"
