"""Nodes for ComfyUI, on its V3 schema: thin wrappers over `generation`.

ComfyUI loads whatever lies in its folder `custom_nodes`. There, a clone of this repository or the small folder that
`fantasytalking comfyui` writes hands it `comfy_entrypoint`. What belongs to ComfyUI (`comfy_api`, `comfy`, `folder_paths`) is imported
by the modules of nodes, which need a running ComfyUI; importing this package does not.
"""

from __future__ import annotations

from typing import Any

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> Any:
    """The extension, as ComfyUI asks for it once at its start."""
    from fantasytalking.integrations.comfyui.extension import FantasyTalkingExtension

    return FantasyTalkingExtension()
