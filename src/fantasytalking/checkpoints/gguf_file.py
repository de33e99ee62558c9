"""GGUF files as the Wan backbones circulate in them: original names, block-quantised matrices, the rest in float.

Reading needs the package `gguf`; what the blocks mean is diffusers' business (`diffusers.quantizers.gguf`), as for its own
`GGUFQuantizationConfig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from fantasytalking.checkpoints.tensor_info import TensorInfo
from fantasytalking.errors import CheckpointError, MissingDependencyError

__all__ = ["GGUF_SUFFIX", "GgufFile", "stored_bytes"]

GGUF_SUFFIX = ".gguf"
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Entry for a tensor of more dimensions than GGUF used to allow, such as the patch embedding: its shape before it was flattened."""
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class GgufFile:
    """One GGUF file, mapped; values of quantised tensors are expanded when they are read.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is damaged, or holds a type that cannot be read.
        MissingDependencyError: The package gguf is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, str] = {}
        self.infos: dict[str, TensorInfo] = {}
        self._reader: Any = None
        reader = self._open()
        for tensor in reader.tensors:
            kind = tensor.tensor_type.name
            shape = tuple(int(size) for size in reversed(tensor.shape))
            entry = reader.get_field(ORIGINAL_SHAPE + tensor.name)
            if entry is not None:
                shape = tuple(int(entry.parts[index][0]) for index in entry.data)
            if kind not in _FLOATS and tensor.tensor_type not in _expanders():
                raise CheckpointError(
                    f"{path}: tensor {tensor.name} is quantised as {kind}, which diffusers cannot read; "
                    "use a file of a type such as Q8_0, Q6_K, Q5_K_M or Q4_K_M."
                )
            # Expanded values are half precision, whatever the blocks.
            self.infos[tensor.name] = TensorInfo(
                shape, _FLOATS.get(kind, torch.float16), None if kind in _FLOATS else kind
            )

    def _open(self) -> Any:
        if self._reader is None:
            try:
                import gguf
            except ImportError as error:
                raise MissingDependencyError(
                    f"{self.path} is a GGUF file, which needs the package gguf; install it with pip install 'fantasytalking[gguf]'."
                ) from error
            try:
                self._reader = gguf.GGUFReader(str(self.path))
            except (ValueError, IndexError, KeyError, OSError, OverflowError, UnicodeDecodeError) as error:
                raise CheckpointError(
                    f"{self.path} cannot be read as GGUF ({str(error).rstrip('.') or type(error).__name__}); it is damaged or incomplete, "
                    "so download or copy it again."
                ) from error
        return self._reader

    def stored(self, key: str) -> torch.Tensor:
        """A tensor as it is stored: a `GGUFParameter` of diffusers where it is quantised."""
        from diffusers.quantizers.gguf.utils import GGUFParameter

        tensor = next(one for one in self._open().tensors if one.name == key)
        data = torch.from_numpy(np.array(tensor.data))
        if self.infos[key].quantised is not None:
            return GGUFParameter(data, quant_type=tensor.tensor_type)  # type: ignore[no-any-return]
        if tensor.tensor_type.name == "BF16":
            data = data.view(torch.bfloat16)
        return data.reshape(self.infos[key].shape)

    def get(self, key: str) -> torch.Tensor:
        """The values of a tensor."""
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        value: torch.Tensor = dequantize_gguf_tensor(self.stored(key))
        return value.reshape(self.infos[key].shape)

    def release(self) -> None:
        """Close the mapping."""
        self._reader = None


def stored_bytes(info: TensorInfo) -> int:
    """Size of a tensor as its file stores it, which is less than that of its values where it is quantised."""
    if info.quantised is None:
        return info.nbytes
    import gguf

    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[info.quantised]]
    return int(torch.Size(info.shape).numel() // values * size)


def _expanders() -> Any:
    from diffusers.quantizers.gguf.utils import dequantize_functions

    return dequantize_functions
