"""Layers that keep their weights as a file stores them, in blocks or 8-bit floats, and expand them whenever they are used.

Only the matrices of the blocks are kept so: they are 98 % of the released transformer, and what is left is sensitive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fantasytalking.checkpoints.fill_model import Source
from fantasytalking.checkpoints.scaled_weights import FLOAT8
from fantasytalking.errors import CheckpointError, SettingsError

__all__ = ["Float8Linear", "fits_float8", "keep_weight", "kept_weights", "quantised_layers", "refuse_quantised"]

_CHUNK = 2**18
"""Numbers that are brought to 8 bits at once."""


class Float8Linear(nn.Linear):
    """A linear layer whose weight is stored in 8-bit floats and computes in the type of its input.

    Args:
        layer: The layer that it replaces.
        weight: [out, in] in a float8 type.
        scale: One number, or [out], by which the weight is multiplied.
    """

    def __init__(self, layer: nn.Linear, weight: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        # As bytes, so that no cast of the model widens it, and a LoRA beside it is not made in 8-bit floats.
        self.stored_as = weight.dtype
        self.weight = nn.Parameter(weight.view(torch.uint8), requires_grad=False)
        self.bias = layer.bias
        self.weight_scale: torch.Tensor
        self.register_buffer("weight_scale", scale.float().reshape(-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., in] to [..., out]."""
        # An 8-bit float is exact in every wider type; the scale acts on the result, which rounds less than a scaled weight.
        result = nn.functional.linear(x, self.weight.view(self.stored_as).to(x.dtype)) * self.weight_scale.to(x.dtype)
        return result if self.bias is None else result + self.bias.to(x.dtype)


def fits_float8(key: str, shape: Sequence[int]) -> bool:
    """Whether a plain tensor of the transformer is stored in 8-bit floats where these are wanted.

    Args:
        key: Name of the tensor in the model.
        shape: Its shape.
    """
    # An adapter is small, and what a video's lips follow: it is quantised only where its file is.
    return key.startswith("blocks.") and key.endswith(".weight") and len(shape) == 2 and ".processor." not in key


def kept_weights(model: nn.Module, sources: Sequence[Source], wanted: torch.dtype) -> list[list[str]]:
    """Names of the tensors of each source that stay as the files store them, or are stored in 8-bit floats because these are wanted.

    Args:
        model: The model.
        sources: The checkpoints that fill it.
        wanted: A float8 type to store weights in, or the type that the model computes in.

    Raises:
        SettingsError: A float8 type, and the model has no blocks that can be stored in it.
    """
    kept = [[key for key in source.ordered() if _is_kept(model, source, key, wanted)] for source in sources]
    if wanted in FLOAT8 and not any(kept):
        raise SettingsError(
            f"A {type(model).__name__} cannot be stored in {str(wanted).removeprefix('torch.')}, only the transformer can; "
            "use torch.bfloat16."
        )
    return kept


def _is_kept(model: nn.Module, source: Source, key: str, wanted: torch.dtype) -> bool:
    info = source.stored()[key]
    if not (info.quantised or info.dtype in FLOAT8 or (wanted in FLOAT8 and fits_float8(key, info.shape))):
        return False
    name, _, leaf = key.rpartition(".")
    return key.startswith("blocks.") and leaf == "weight" and isinstance(model.get_submodule(name), nn.Linear)


def keep_weight(
    model: nn.Module, source: Source, key: str, wanted: torch.dtype, compute: torch.dtype, device: str | torch.device
) -> None:
    """Give a linear layer its weight as it is stored.

    Args:
        model: The model.
        source: The checkpoint.
        key: Name of the weight in the model.
        wanted: A float8 type to store the weight in, or the type that the model computes in.
        compute: Type that the model computes in.
        device: Device of the weight.
    """
    name = key.rpartition(".")[0]
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    info = source.stored()[key]
    if info.quantised:
        from diffusers.quantizers.gguf.utils import GGUFLinear

        # On the meta device, as its own weight is thrown away.
        made: Any = GGUFLinear(layer.in_features, layer.out_features, False, compute, torch.device("meta"))
        made.weight = source.as_stored(key).to(device)
        made.bias = layer.bias
    elif info.dtype in FLOAT8:
        scale = source.scale(key)
        scale = torch.ones(1) if scale is None else scale.float().clone()
        # A copy: a view would keep its whole file mapped.
        made = Float8Linear(layer, source.as_stored(key).clone().to(device), scale.to(device))
    else:
        made = Float8Linear(layer, *_in_float8(source.get(key).to(device), wanted))
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, made.eval())


def _in_float8(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix in 8-bit floats and the scale that uses their whole range."""
    low, high = torch.aminmax(weight)
    scale = (torch.maximum(-low, high).float() / torch.finfo(dtype).max).clamp_min(torch.finfo(torch.float32).tiny)
    result = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    # Row by row: what is freed between two matrices that stay would be of no use to anyone.
    rows = max(1, _CHUNK // weight.shape[1])
    for part, into in zip(weight.split(rows), result.split(rows), strict=True):
        into.copy_(part.float() / scale)
    return result, scale


def quantised_layers(model: nn.Module) -> list[str]:
    """Names of the layers whose weights are kept as a file stores them."""
    kinds = ("GGUFLinear", Float8Linear.__name__)
    return [name for name, layer in model.named_modules() if type(layer).__name__ in kinds]


def refuse_quantised(model: Any) -> None:
    """Refuse to save a model whose weights are kept as a file stores them: no model folder has such layers.

    Raises:
        CheckpointError: It has such layers.
    """
    if isinstance(model, nn.Module) and (names := quantised_layers(model)):
        raise CheckpointError(
            f"{len(names)} layers of the {type(model).__name__} hold weights as their GGUF or fp8 file stores them, which a model folder "
            "cannot hold; load it with quantised='expand', or use 'fantasytalking convert --transformer'."
        )
