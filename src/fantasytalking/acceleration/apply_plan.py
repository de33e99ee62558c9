"""Make a pipeline follow a memory plan, and what else a command line chooses about speed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from fantasytalking.acceleration.attention_backends import check_attention
from fantasytalking.acceleration.few_step_lora import require_peft
from fantasytalking.acceleration.memory_plan import MemoryPlan
from fantasytalking.errors import CheckpointError, OutOfMemory, SettingsError
from fantasytalking.system.records import nearest_name

__all__ = [
    "SCHEDULERS",
    "SpeedOptions",
    "advice_on_memory",
    "apply_plan",
    "apply_speed",
    "load_loras",
    "memory_released",
    "release",
]

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "lcm": ("FlowMatchLCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    "dpm++": ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
}
"""Name -> a flow scheduler of diffusers and its options; the shift is a setting of the generation."""
_ENCODERS = ("text_encoder", "image_encoder", "audio_encoder")


@dataclass(frozen=True)
class SpeedOptions:
    """Single choices about speed.

    Attributes:
        attention: Name of an attention back-end of diffusers; None leaves PyTorch's own.
        compile: Whether the transformer's blocks are compiled.
        loras: Files with LoRA weights, each with its weight.
        scheduler: Name in `SCHEDULERS`; None leaves the model's own.
    """

    attention: str | None = None
    compile: bool = False
    loras: tuple[tuple[Path, float], ...] = ()
    scheduler: str | None = None


def apply_plan(pipeline: Any, plan: MemoryPlan, device: torch.device) -> None:
    """Put a loaded pipeline's parts where a plan says.

    Args:
        pipeline: A pipeline whose transformer has the plan's types already.
        plan: The plan.
        device: Where the parts compute.
    """
    if plan.vae_tiling and hasattr(pipeline.vae, "enable_tiling"):
        pipeline.vae.enable_tiling()
    if plan.offload == "none":
        pipeline.to(device)
    elif plan.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        _stream(pipeline, device, mapped=plan.offload == "disk")


def _stream(pipeline: Any, device: torch.device, mapped: bool) -> None:
    """Group offloading: the transformer by blocks, encoders by layers; the autoencoder is small and stays."""
    # Here, as most runs need none of it.
    from diffusers.hooks import apply_group_offloading

    streams = device.type == "cuda"
    waiting = torch.device("cpu")
    pipeline.transformer.enable_group_offload(
        device,
        waiting,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=streams,
        record_stream=streams,
        # pinned when they are needed: what is pinned ahead would be a copy of the mapped file
        low_cpu_mem_usage=mapped,
    )
    for name in _ENCODERS:
        part = getattr(pipeline, name)
        if part is not None:
            by_stream = streams and mapped and name == "text_encoder"
            apply_group_offloading(
                part, device, waiting, offload_type="leaf_level", use_stream=by_stream, low_cpu_mem_usage=by_stream
            )
    pipeline.vae.to(device)


def load_loras(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> None:
    """Put LoRA weights on the transformer.

    Args:
        pipeline: The pipeline, before any of its parts waits off the device.
        loras: Files, each with its weight.

    Raises:
        MissingDependencyError: peft is not installed.
        CheckpointError: A file is missing or fits no layer.
    """
    if not loras:
        return
    require_peft()
    names = []
    for number, (path, _) in enumerate(loras):
        if not path.is_file():
            raise CheckpointError(f"There is no LoRA file '{path}'; check the path.")
        names.append(f"lora_{number}")
        try:
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=names[-1])
        except Exception as error:
            # Readers of three libraries and peft raise errors of many kinds.
            raise CheckpointError(
                f"The LoRA '{path}' cannot be put on this model: {' '.join(str(error).split())}"
            ) from error
        if names[-1] not in getattr(pipeline.transformer, "peft_config", {}):
            raise CheckpointError(
                f"The LoRA '{path}' fits no layer of this model; give one that was trained for Wan2.1 14B."
            )
    pipeline.set_adapters(names, [weight for _, weight in loras])


def apply_speed(pipeline: Any, options: SpeedOptions, device: torch.device) -> None:
    """Follow single choices about speed, except for LoRA.

    Raises:
        SettingsError: There is no such scheduler or attention back-end, or the back-end's package is not installed.
    """
    if options.scheduler is not None:
        if options.scheduler not in SCHEDULERS:
            raise SettingsError(
                f"There is no scheduler {options.scheduler!r}; {nearest_name(options.scheduler, SCHEDULERS, 'schedulers')}"
            )
        kind, choices = SCHEDULERS[options.scheduler]
        pipeline.scheduler = getattr(diffusers, kind).from_config(pipeline.scheduler.config, **choices)
    if options.attention is not None:
        transformer = pipeline.transformer
        check_attention(options.attention, device, transformer.dtype, transformer.config.attention_head_dim)
        try:
            transformer.set_attention_backend(options.attention)
        except (ValueError, ImportError, RuntimeError) as error:
            # what is fetched from the hub, or cannot be shared by several processes
            reason = " ".join(str(error).split())
            raise SettingsError(f"The attention back-end {options.attention!r} cannot be used: {reason}") from error
    if options.compile and device.type == "cuda":
        pipeline.transformer.compile_repeated_blocks()


def advice_on_memory(pipeline: Any) -> str:
    """What would help a pipeline that ran out of the device's memory: the end of a sentence."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    weights = sum(w.numel() * w.element_size() for part in parts for w in part.parameters())
    if any(hasattr(module, "_diffusers_hook") for module in pipeline.transformer.blocks):
        return (
            "its weights wait elsewhere already, so use --batch-passes off, --vae-tiling on, a smaller --longest-side or fewer "
            "--max-seconds."
        )
    if getattr(pipeline, "_all_hooks", None):
        return (
            "use --memory low, which streams the transformer block by block; in Python pipeline.enable_group_offload."
        )
    return (
        f"its weights alone take {weights / 2**30:.1f} GiB: use --memory balanced or low, under which parts wait in main memory; in "
        "Python pipeline.enable_model_cpu_offload or enable_group_offload."
    )


@contextlib.contextmanager
def memory_released(pipeline: Any) -> Iterator[None]:
    """A call of a pipeline: at its end, after an error too, parts that wait off the device are sent back there.

    Raises:
        OutOfMemory: The device has too little memory; the sentence says what would help.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"The clip does not fit into the memory of the device; {advice_on_memory(pipeline)}"
        ) from error
    finally:
        pipeline.maybe_free_model_hooks()


def release(device: torch.device) -> None:
    """Give back what a pipeline that is no longer referred to held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
