"""First values of the parts that Wan does not have."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["reset_new_parts"]


def reset_new_parts(model: Any) -> None:
    """Initialise the parts of a transformer that Wan does not have, so that it equals plain Wan.

    Args:
        model: A `FantasyTalkingTransformer3DModel`.
    """
    for part in (model.audio_projector, model.identity_qformer):
        _reset(part)
    if model.identity_qformer is not None:
        nn.init.normal_(model.identity_qformer.queries, std=model.config.identity_dim**-0.5)
    if model.window_positions is not None:
        nn.init.normal_(model.window_positions)
    if model.motion_network is not None:
        _reset(model.motion_network)
        model.motion_network.reset_output()
    for block in model.blocks:
        _reset(block.attn2.processor)
        block.attn2.processor.reset_values()


def _reset(part: nn.Module | None) -> None:
    for module in [] if part is None else part.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.LayerNorm):
            module.reset_parameters()
