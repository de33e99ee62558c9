"""Attention back-ends of diffusers by name, and whether one can compute on a device; found out before a model is loaded."""

from __future__ import annotations

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)

from fantasytalking.errors import SettingsError
from fantasytalking.system.records import nearest_name
from fantasytalking.transformer.attention import MASKING_BACKENDS

__all__ = ["check_attention"]

_TOKENS, _HEADS = 16, 2


def check_attention(name: str, device: torch.device, dtype: torch.dtype, head_width: int = 128) -> None:
    """Check that an attention back-end is known and computes here: a small attention is tried.

    Args:
        name: Name of the back-end, as diffusers has it.
        device: Where the transformer will compute.
        dtype: Type of its queries.
        head_width: Channels of a head; that of the released model where no model is known yet.

    Raises:
        SettingsError: There is no such back-end, its package is not installed, or it does not compute on this device or in this type.
    """
    names = sorted(one.value for one in AttentionBackendName if not one.value.startswith("_"))
    try:
        backend = AttentionBackendName(name.lower())
    except ValueError:
        way_out = nearest_name(name, names, "attention back-ends")
        raise SettingsError(f"There is no attention back-end {name!r}; {way_out}") from None
    try:
        # private, but the only place that knows the packages; `set_attention_backend` asks it too, of a model that is loaded already
        _check_attention_backend_requirements(backend)
        if not backend.value.endswith("_hub"):
            _try(backend, device, dtype, head_width)
    except Exception as error:
        # Kernels of many packages raise errors of many kinds.
        reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
        raise SettingsError(
            f"The attention back-end {name!r} cannot be used on {device.type} in {str(dtype).removeprefix('torch.')} ({reason}); leave out "
            "--attention for PyTorch's own."
        ) from error


def _try(backend: AttentionBackendName, device: torch.device, dtype: torch.dtype, head_width: int) -> None:
    """Attend as the transformer does. What is fetched from the hub (`_hub`) is not there before `set_attention_backend`."""
    query = torch.zeros(1, _TOKENS, _HEADS, head_width, device=device, dtype=dtype)
    masks: list[torch.Tensor | None] = [None]
    if backend in MASKING_BACKENDS:
        masks.append(torch.ones(1, 1, _TOKENS, _TOKENS, device=device, dtype=torch.bool))
    with torch.no_grad():
        for mask in masks:
            dispatch_attention_fn(query, query, query, attn_mask=mask, backend=backend)
