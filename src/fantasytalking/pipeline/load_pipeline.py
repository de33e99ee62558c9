"""Loading a model onto a device, with the choices that a command line leaves open."""

from __future__ import annotations

from typing import Literal

import torch

from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.machine import choose_device

__all__ = ["DtypeName", "load_pipeline"]

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

# Small networks whose precision is visible in the result; they stay in float32 whatever type the transformer has.
_PRECISE = ("vae", "audio_encoder", "image_encoder")


def load_pipeline(name: str, device: str = "auto", dtype: DtypeName = "auto") -> FantasyTalkingPipeline:
    """Load a model onto a device; if it does not fit, its parts wait in main memory until they are needed.

    Args:
        name: `embedded`, a model folder, or a hub repository as owner/name.
        device: `auto` or a torch device.
        dtype: Type of the transformer and the text encoder; `auto` is bfloat16 on an accelerator, float32 on a
            CPU.

    Raises:
        SettingsError: There is no such device.
        CheckpointError: There is no such model, or its folder is incomplete or does not fit.
    """
    place = choose_device(device)
    chosen = {"auto": torch.float32 if place.type == "cpu" else torch.bfloat16}.get(dtype) or getattr(torch, dtype)
    pipeline = FantasyTalkingPipeline.from_pretrained(
        name, dtype={"default": chosen, **dict.fromkeys(_PRECISE, torch.float32)}
    )
    if place.type == "cuda" and _weight_bytes(pipeline) > 0.8 * torch.cuda.mem_get_info(place)[0]:
        pipeline.enable_model_cpu_offload(device=place)
    else:
        pipeline.to(place)
    return pipeline


def _weight_bytes(pipeline: FantasyTalkingPipeline) -> int:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.numel() * weight.element_size() for module in modules for weight in module.parameters())
