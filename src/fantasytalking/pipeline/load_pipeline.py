"""Loading a model onto a device, with the choices that a command line leaves open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from fantasytalking.checkpoints.backbone import load_backbone
from fantasytalking.errors import CheckpointError
from fantasytalking.pipeline.model_folder import check_folder
from fantasytalking.pipeline.model_names import resolve_model
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.system.machine import choose_device
from fantasytalking.system.processes import set_threads
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel

__all__ = ["DtypeName", "load_pipeline", "use_threads"]

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

# Small networks whose precision is visible in the result; they stay in float32 whatever type the transformer has.
_PRECISE = ("vae", "audio_encoder", "image_encoder")

_NARROW = 1024
"""Width of a transformer below which a second thread is of no use: at width 192 two take as long as one, and more of both cores."""


def load_pipeline(
    name: str,
    device: str = "auto",
    dtype: DtypeName = "auto",
    transformer: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
) -> FantasyTalkingPipeline:
    """Load a model onto a device; if it does not fit, its parts wait in main memory until they are needed.

    Args:
        name: `embedded`, a model folder, or a hub repository as owner/name.
        device: `auto` or a torch device.
        dtype: Type of the transformer and the text encoder; `auto` is bfloat16 on an accelerator, float32 on a
            CPU.
        transformer: File or folder of Wan's weights in place of the model's; the model's adapter is laid on it.
        adapter: Adapter in place of the model's; needs `transformer`.

    Raises:
        SettingsError: There is no such device.
        CheckpointError: There is no such model, or its folder is incomplete or does not fit.
    """
    place = choose_device(device)
    chosen = {"auto": torch.float32 if place.type == "cpu" else torch.bfloat16}.get(dtype) or getattr(torch, dtype)
    parts = {} if transformer is None else {"transformer": _backbone(name, transformer, adapter, chosen)}
    pipeline = FantasyTalkingPipeline.from_pretrained(
        name, dtype={"default": chosen, **dict.fromkeys(_PRECISE, torch.float32)}, **parts
    )
    if place.type == "cuda" and _weight_bytes(pipeline) > 0.8 * torch.cuda.mem_get_info(place)[0]:
        pipeline.enable_model_cpu_offload(device=place)
    else:
        pipeline.to(place)
    return pipeline


def _backbone(
    name: str, path: str | os.PathLike[str], adapter: str | os.PathLike[str] | None, dtype: torch.dtype
) -> FantasyTalkingTransformer3DModel:
    folder = resolve_model(name)
    if not isinstance(folder, Path):
        raise CheckpointError(
            f"Another transformer needs a model folder on this machine, and '{name}' is on the hub; download it first."
        )
    check_folder(folder)
    return load_backbone(Path(path), folder, dtype, adapter=None if adapter is None else Path(adapter))


def use_threads(pipeline: FantasyTalkingPipeline, count: int | None = None) -> int:
    """Set the number of threads of PyTorch and OpenCV in this process; the bundled face networks always use one.

    Args:
        pipeline: The model that will run.
        count: Threads of each; None: what `OMP_NUM_THREADS` says, else one for a narrow transformer on a CPU, else PyTorch's choice.

    Returns:
        Threads for the video encoder: the same number, or 0 (as many as it likes) where nobody gave one.
    """
    given = torch.get_num_threads() if count is None and os.environ.get("OMP_NUM_THREADS") else count
    if given is not None:
        set_threads(given)
        return given
    config = pipeline.transformer.config
    if pipeline.device.type == "cpu" and config.num_attention_heads * config.attention_head_dim < _NARROW:
        set_threads(1)
    return 0


def _weight_bytes(pipeline: FantasyTalkingPipeline) -> int:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.numel() * weight.element_size() for module in modules for weight in module.parameters())
