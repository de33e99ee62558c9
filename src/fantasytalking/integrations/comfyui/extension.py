"""All nodes, as ComfyUI asks for them."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension

from fantasytalking.integrations.comfyui.file_nodes import (
    FantasyTalkingDub,
    FantasyTalkingLongVideo,
    FantasyTalkingSeveralSpeakers,
)
from fantasytalking.integrations.comfyui.frame_nodes import FantasyTalkingSampler, FantasyTalkingSave
from fantasytalking.integrations.comfyui.input_nodes import (
    FantasyTalkingFace,
    FantasyTalkingSettings,
    FantasyTalkingSpeaker,
    FantasyTalkingSpeech,
    FantasyTalkingSpeechFile,
)
from fantasytalking.integrations.comfyui.load_nodes import FantasyTalkingLora, FantasyTalkingModel
from fantasytalking.integrations.comfyui.models_in_comfyui import register

__all__ = ["NODES", "FantasyTalkingExtension"]

NODES: tuple[Any, ...] = (
    FantasyTalkingModel,
    FantasyTalkingLora,
    FantasyTalkingSpeech,
    FantasyTalkingSpeechFile,
    FantasyTalkingSpeaker,
    FantasyTalkingFace,
    FantasyTalkingSettings,
    FantasyTalkingSampler,
    FantasyTalkingLongVideo,
    FantasyTalkingSeveralSpeakers,
    FantasyTalkingDub,
    FantasyTalkingSave,
)


class FantasyTalkingExtension(ComfyExtension):
    """Our nodes."""

    async def on_load(self) -> None:
        """Tell ComfyUI where our models lie."""
        register()

    async def get_node_list(self) -> list[Any]:
        """The nodes."""
        return list(NODES)
